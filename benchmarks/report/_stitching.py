"""The page of experiments on stitching."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

import stitching.plot
from benchmarks.report import plots
from benchmarks.report._figure import TEXTS, Figure, figure, panel
from benchmarks.report._numbers import array, fixed, interval
from benchmarks.report._page import NEEDS_THREE, Page, Section, Table, asked, judged
from benchmarks.report._style import COLOURS, DASHES, line, strong

TASK_LOSS, LEAST_SQUARES = "task loss: affine", "least squares"
# The maps that every pair has.
_MAPS = {
    TASK_LOSS: line("task loss", strong(1)),
    LEAST_SQUARES: line("least squares", strong(0)),
    "Procrustes": line("Procrustes", strong(2), DASHES[0]),
    "reduced rank 0.25": line("a quarter of the rank", strong(3), DASHES[1]),
    "permutation": line("permutation", COLOURS["muted-1"][0], DASHES[2]),
}
_INDICES = {
    "CKA": line("CKA", strong(0)),
    "CCA": line("CCA", strong(2)),
    "PWCCA": line("PWCCA", strong(3)),
}
_SIZES = (
    ("Rank, least squares", "direct", "reduced rank", LEAST_SQUARES),
    ("Rank, task loss", "task loss", "low rank", TASK_LOSS),
    ("Sparse, least squares", "direct", "sparse", LEAST_SQUARES),
    ("Sparse, task loss", "task loss", "sparse", TASK_LOSS),
)
_SCORES = {
    "relative_accuracy": ("Relative accuracy, %", 100),
    "r_squared": ("R² of least squares, %", 100),
    "CKA": ("CKA", 1),
    "CCA": ("Mean squared CCA correlation", 1),
}
_CONTROLS = ("self_stitch", "shuffled", "noise", "untrained")


def page(result: Any) -> Page:
    """The page of experiments on stitching."""
    config, texts = result.config, TEXTS["pages"]["stitching"]
    return Page(
        **asked("stitching"),
        subtitle=f"{config['dataset']}, {config['model']}; "
        f"{len(result.networks.test_accuracy)} networks, {len(result.pairs)} ordered "
        f"pairs, {len(result.layers)} layers; maps fitted on {config['fit_rows']} "
        f"rows, task loss {config['steps']} steps of {config['batch_size']}",
        headlines=headlines(result),
        **judged({"": result.claims}),
        sections=[
            Section("Layer by layer", figures=[_by_layer(result)]),
            Section("Can it be trusted?", figures=_audit(result)),
            Section("Similarity indices", figures=[_indices(result)]),
            *_crossed(result),
            *_sizes(result),
            Section("Every class of maps", [texts["classes"]], tables=_classes(result)),
            Section("What this does not show", bullets=texts["limits"]),
        ],
    )


def headlines(result: Any) -> list[tuple[str, str]]:
    """Accuracy at the worst layer by both kinds of maps, and what an index says."""
    found = []
    for name, how in ((TASK_LOSS, "trained on the task"), (LEAST_SQUARES, "fitted")):
        layer, accuracy = worst(result.stitches, name)
        text = f"of network b's accuracy at the worst layer, {short(layer)}; map {how}"
        found.append((f"{fixed(accuracy, 1)} %", text))
    number = array(result.correlations[TASK_LOSS]["CKA"].mean).item()
    text = "rank correlation over layers of CKA with the accuracy of the stitch"
    return [*found, (fixed(number, 2), text)]


def worst(stitches: Mapping[str, Any], name: str) -> tuple[str, float]:
    """The layer at which a map does worst, and its relative accuracy in percent."""
    means = {
        layer: 100 * maps[name].relative_accuracy.mean
        for layer, maps in stitches.items()
    }
    layer = min(means, key=lambda layer: means[layer])
    return layer, means[layer]


def short(layer: str) -> str:
    """A layer's name, short enough for a tick.

    Example:
        >>> short("_Block_3"), short("bn8"), short("encoder/Dense_0")
        ('block 3', 'bn8', 'Dense 0')
    """
    name = layer.rpartition("/")[2].lstrip("_").replace("_", " ")
    return name.lower() if layer.startswith("_") else name


def over_layers(
    layers: Any, numbers: Sequence[Any], look: dict, scale: float = 100, *ends: float
):
    """Draws means over the layers, for a solid line with their intervals as a band."""
    found = [interval(number, scale, *(ends or (0,))) for number in numbers]
    known = all(number.known for number in found) and look["linestyle"] == "solid"
    band = ([n.low for n in found], [n.high for n in found]) if known else None
    means, names = [number.mean for number in found], [short(layer) for layer in layers]
    return partial(stitching.plot.over_layers, means, names, interval=band, **look)


def lines(title: str, result: Any, measure: str, scale: float = 100, **settings: Any):
    """A panel with a measure of the maps that every pair has, over the layers."""
    every = result.stitches.values()
    logarithmic, bounded = "yscale" in settings, measure == "agreement"
    draws = []
    for name, look in _MAPS.items():
        if all(name in maps for maps in every):
            numbers = [getattr(maps[name], measure) for maps in every]
            lowest = scale * min(number.mean for number in numbers) / 10
            ends = (lowest if logarithmic else 0, scale if bounded else np.inf)
            draws.append(over_layers(result.stitches, numbers, look, scale, *ends))
    limits: dict[str, Any] = {} if logarithmic else {"ylim": (0, 106)}
    return panel(title, *draws, **limits | settings)


def _by_layer(result: Any) -> Figure:
    panels = [
        lines("Relative accuracy, %", result, "relative_accuracy"),
        lines("Agreement with network b, %", result, "agreement"),
    ]
    return figure("layers", panels)


def _audit(result: Any) -> list[Figure]:
    panels = [
        lines("Unexplained variance, %", result, "residual", yscale="log"),
        lines("Distance from network b's own", result, "distance", 1, yscale="log"),
    ]
    found = [figure("audit", panels)]
    if result.audit:
        panels = []
        for method in next(iter(result.audit.layers.values())):
            audits = {
                short(layer): _in_percent(found[method])
                for layer, found in result.audit.layers.items()
            }
            draw = partial(stitching.plot.audit, audits)
            panels.append(panel(f"{method.capitalize()}, %", draw, share=("", "%")))
        count = len(result.audit.pairs)
        pairs = _counted(count) + f" (an interval {NEEDS_THREE})" * (count < 3)
        found.append(figure("controls", panels, pairs=pairs))
    return found


def _counted(pairs: int) -> str:
    return f"{pairs} pair{'s' * (pairs > 1)}"


def _in_percent(found: Any) -> Any:
    """What `stitching.report.audit` returns, in percent."""

    def measures(accuracy: float | None):
        return (
            None
            if accuracy is None
            else SimpleNamespace(relative_accuracy=100 * accuracy)
        )

    controls = {name: measures(getattr(found.controls, name)) for name in _CONTROLS}
    return SimpleNamespace(
        measures=measures(found.relative_accuracy),
        chance=100 * found.chance,
        controls=SimpleNamespace(**controls),
    )


def _indices(result: Any) -> Figure:
    draws = [
        over_layers(
            result.stitches, [every[name] for every in result.indices.values()], look, 1
        )
        for name, look in _INDICES.items()
        if all(name in every for every in result.indices.values())
    ]
    accuracy = [maps[TASK_LOSS].relative_accuracy for maps in result.stitches.values()]
    look = line("accuracy by task loss", strong(1), DASHES[0])
    draws.append(over_layers(result.stitches, accuracy, look, 1))
    methods = (TASK_LOSS, LEAST_SQUARES)
    rows = {
        index: {m: interval(result.correlations[m][index], 1, -1, 1) for m in methods}
        for index in result.correlations[TASK_LOSS]
    }
    looks = {
        method: {
            "label": f"correlation, {_MAPS[method]['label']}",
            "color": _MAPS[method]["color"],
        }
        for method in methods
    }
    correlations = partial(plots.forest, rows, looks, limits=(-1.05, 1.05))
    panels = [
        panel("Over the layers", *draws, ylim=(0, 1.06)),
        panel("Rank correlation", correlations, height=0.9 + 0.3 * len(rows)),
    ]
    return figure("indices", panels)


def _crossed(result: Any) -> list[Section]:
    if not result.cross:
        return []
    names, panels, found = [short(layer) for layer in result.stitches], [], []
    for score, (title, scale) in _SCORES.items():
        values = scale * array(result.cross.matrices[score]).clip(0)
        draw = partial(stitching.plot.layer_to_layer, values, names, limits=(0, scale))
        panels.append(panel(title, draw, height=3.9))
        share = 100 * result.cross.identification[score].mean
        found.append(f"{title.partition(',')[0]} {fixed(share, 0)} %")
    pairs, told = _counted(len(result.cross.pairs)), ", ".join(found)
    drawn = figure("layer_to_layer", panels, pairs=pairs, found=told)
    return [Section("Layer to layer", figures=[drawn])]


def _sizes(result: Any) -> list[Section]:
    """How much of a map is needed: relative accuracy by layer and by size."""
    names, panels = [short(layer) for layer in result.stitches], []
    for title, way, kind, full in _SIZES:
        table = [_by_size(maps, way, kind, full) for maps in result.stitches.values()]
        sizes = list(table[0])
        if len(sizes) < 2 or any(list(row) != sizes for row in table):
            continue
        values = 100 * array([list(row.values()) for row in table])
        shown = (values, names, sizes)
        draw = partial(stitching.plot.layer_to_layer, *shown, limits=(0, 100))
        what = "penalty" if kind == "sparse" else "share of the full rank"
        panels.append(panel(f"{title}, %", draw, height=3.6, xlabel=what))
    found = [figure("sizes", panels)] if panels else []
    return [Section("How much of the map is needed", figures=found)] if panels else []


def _by_size(
    maps: Mapping[str, Any], way: str, kind: str, full: str
) -> dict[str, float]:
    chosen = [each for each in maps.values() if (each.method, each.kind) == (way, kind)]
    chosen.sort(key=lambda entry: entry.setting, reverse=kind == "sparse")
    found = {f"{entry.setting:g}": entry.relative_accuracy.mean for entry in chosen}
    return found | {"full": maps[full].relative_accuracy.mean}


def _classes(result: Any) -> list[tuple[str, Table]]:
    rows = []
    for name in next(iter(result.stitches.values())):
        found = [maps.get(name) for maps in result.stitches.values()]
        means = [one and 100 * one.relative_accuracy.mean for one in found]
        rows.append(
            (name, *("–" if mean is None else fixed(mean, 1) for mean in means))
        )
    accuracy = 100 * array(result.networks.test_accuracy)
    low, high = fixed(accuracy.min(), 1), fixed(accuracy.max(), 1)
    title = f"The networks themselves have {low} to {high} % test accuracy"
    columns = ("map", *(short(layer) for layer in result.stitches))
    return [(title, Table(columns, rows))]
