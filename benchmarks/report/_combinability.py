"""What the report of experiments on combinability says around its figures."""

import html
from typing import Any

from benchmarks.report._combinations import (
    barriers,
    differences,
    hypercube,
    landscape,
    robustness,
    segments,
    transitivity,
)
from benchmarks.report._document import bullets, figure_section, grid
from benchmarks.report._figure import Figure
from benchmarks.report._numbers import with_interval

_LIMITS = (
    "Small networks, one data set, a handful of seeds. Intervals are over networks "
    "(jackknife, 95 %); with five networks they are wide and only roughly right.",
    "The criteria of the claims are ours. The paper's abstract gives no numbers, so no "
    "number here reproduces one of the paper's.",
    "Matching is by weights alone. Another matching could be better, above all for "
    "narrow networks.",
    "Losses are means over fixed random rows, the same for all combinations. REPAIR "
    "and temperatures are fitted on other training rows.",
)
_COLUMNS = ("claim", "what is measured", "value", "bound", "verdict")


def title(result: dict[str, Any]) -> str:
    """The page's title."""
    return "Combinations of aligned networks"


def subtitle(result: dict[str, Any]) -> str:
    """What was run, in a line."""
    config = result["config"]
    widths = ", ".join(result["widths"])
    return (
        f"{config['dataset']}, {config['model']}, widths {widths}; "
        f"{config['networks']} networks each, {config['steps']} steps of "
        f"{config['batch_size']}; {config['samples']} combinations a distribution"
    )


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of experiments on combinability."""
    return [
        hypercube(result),
        barriers(result),
        segments(result),
        landscape(result),
        transitivity(result),
        robustness(result),
        differences(result),
    ]


def sections(result: dict[str, Any], figures: list[Figure]) -> list[str]:
    """The sections between the title and how it was made, as HTML."""
    widths = result["widths"].items()
    return [
        f"<section><h2>The claims</h2>{''.join(_claims(*item) for item in widths)}"
        "</section>",
        f"<section><h2>The networks</h2>{_networks(result)}</section>",
        *map(figure_section, figures),
        f"<section><h2>What this does not show</h2>{bullets(_LIMITS)}</section>",
        "".join(_symmetry(*item) for item in widths),
    ]


def combined(found: dict[str, Any]) -> list[str]:
    """What a taste of combinations says, in sentences."""
    parents = [scores["test_error"] for scores in found["parents"]]
    said = []
    for cell in found["hypercube"].values():
        values = cell["test_error"]["percentiles"]
        how = "matched" if cell["cell"]["aligned"] else "as they are"
        drawn = cell["cell"]["distribution"]
        said.append(
            f"{how.capitalize()}: half of {drawn} combinations err on at "
            f"most {100 * values[50]:.1f} % of test rows, 95 of 100 on at most "
            f"{100 * values[95]:.1f} %; the parents on {100 * parents[0]:.1f} and "
            f"{100 * parents[1]:.1f} %."
        )
    return said


def _claims(width: str, found: dict[str, Any]) -> str:
    rows = [
        (
            row["claim"],
            row["measure"],
            with_interval(row),
            f"{row['side']} {row['bound']:g}",
            row["verdict"],
        )
        for row in found["claims"]
    ]
    return f"<h3>Width {html.escape(width)}</h3>{grid(_COLUMNS, rows)}"


def _networks(result: dict[str, Any]) -> str:
    columns = ("width", "parameters", "test accuracy", "matching's best start")
    rows = []
    for width, found in result["widths"].items():
        accuracies = found["networks"]["test_accuracy"]
        starts = found["matching"]["best_start"]
        counts = {name: starts.count(name) for name in dict.fromkeys(starts)}
        rows.append(
            (
                width,
                f"{found['parameters']:,}",
                f"{100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %",
                ", ".join(f"{name} {count}" for name, count in counts.items()),
            )
        )
    return grid(columns, rows)


def _symmetry(width: str, found: dict[str, Any]) -> str:
    name = f"Symmetry of width {html.escape(width)}, as inferred"
    table = html.escape(found["symmetry"])
    return f"<details><summary>{name}</summary><pre>{table}</pre></details>"
