"""What the report of experiments on stitching says around its figures."""

from typing import Any

from benchmarks.report._document import bullets, figure_section, grid
from benchmarks.report._figure import Figure
from benchmarks.report._numbers import array, with_interval
from benchmarks.report._stitches import (
    audit,
    by_layer,
    classes,
    curves,
    indices,
    layer_to_layer,
)

_LIMITS = (
    "One architecture and one data set. Intervals are over networks (jackknife, 95 %), "
    "which pairs share; with few networks they are wide and only roughly right.",
    "The criteria of the claims are ours, fixed before any run; the papers give curves "
    "rather than bounds.",
    "Task loss is trained for a fixed number of steps at one learning rate, from least "
    "squares. More steps would change its accuracy, and lead farther from network 2's "
    "own activations.",
    "A map of channels does the same at every position. Networks whose maps are "
    "shifted against each other would not match by it, however alike they are.",
)
_CLAIMS = ("claim", "what is measured", "value", "bound", "verdict")
# What the main table has of each layer: a heading, and where the number is.
_MAPS = {
    "task loss": "task loss: affine",
    "least squares": "least squares",
    "Procrustes": "Procrustes",
    "rank 1/4": "reduced rank 0.25",
    "permutation": "permutation",
}
_INDICES = ("CKA", "CCA", "PWCCA")


def title(result: dict[str, Any]) -> str:
    """The page's title."""
    return "Networks stitched to each other"


def subtitle(result: dict[str, Any]) -> str:
    """What was run, in a line."""
    config = result["config"]
    return (
        f"{config['dataset']}, {config['model']}; "
        f"{len(result['networks']['test_accuracy'])} networks, "
        f"{len(result['pairs'])} ordered pairs, {len(result['layers'])} layers; maps "
        f"fitted on {config['fit_rows']} rows, task loss {config['steps']} steps of "
        f"{config['batch_size']}"
    )


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of experiments on stitching."""
    drawn = [
        by_layer(result),
        layer_to_layer(result),
        curves(result),
        indices(result),
        audit(result),
        classes(result),
    ]
    return [figure for figure in drawn if figure is not None]


def sections(result: dict[str, Any], figures: list[Figure]) -> list[str]:
    """The sections between the title and how it was made, as HTML."""
    return [
        f"<section><h2>The claims</h2>{_claims(result)}</section>",
        f"<section><h2>The numbers</h2>{_numbers(result)}</section>",
        *map(figure_section, figures),
        f"<section><h2>What this does not show</h2>{bullets(_LIMITS)}</section>",
    ]


def stitched(found: dict[str, Any]) -> list[str]:
    """What a taste of stitching says, in sentences."""
    said = []
    for layer, maps in found["stitches"].items():
        direct, trained = (
            100 * maps[name]["relative_accuracy"]["mean"]
            for name in ("least squares", "task loss: affine")
        )
        said.append(
            f"Stitched at {layer}: {direct:.1f} % of the second network's accuracy by "
            f"least squares, {trained:.1f} % by task loss; CKA "
            f"{found['CKA'][layer]:.2f}."
        )
    return said


def _claims(result: dict[str, Any]) -> str:
    rows = [
        (
            row["claim"],
            row["measure"],
            with_interval(row),
            f"{row['side']} {row['bound']:g}",
            row["verdict"],
        )
        for row in result["claims"]
    ]
    return grid(_CLAIMS, rows)


def _numbers(result: dict[str, Any]) -> str:
    first = next(iter(result["stitches"].values()))
    maps = {title: name for title, name in _MAPS.items() if name in first}
    rows = []
    for layer, found in result["stitches"].items():
        accuracies = [
            _percent(found[name]["relative_accuracy"]) for name in maps.values()
        ]
        alike = [f"{result['indices'][layer][i]['mean']:.3f}" for i in _INDICES]
        rows.append((layer, *accuracies, *alike))
    accuracies = 100 * array(result["networks"]["test_accuracy"])
    intro = (
        "<p>Relative accuracy in percent, with the half width of its 95 % interval "
        "over networks, and indices of similarity. The networks by themselves: "
        f"{accuracies.min():.1f} to {accuracies.max():.1f} % on the test rows.</p>"
    )
    return intro + grid(("layer", *maps, *_INDICES), rows)


def _percent(number: dict[str, Any]) -> str:
    mean, low, high = array(
        [
            100 * number[key] if number[key] is not None else None
            for key in ("mean", "low", "high")
        ]
    )
    spread = "" if low != low else f" ± {(high - low) / 2:.1f}"
    return f"{mean:.1f}{spread}"
