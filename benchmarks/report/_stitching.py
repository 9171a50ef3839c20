"""The page of experiments on stitching."""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import compress
from types import SimpleNamespace
from typing import Any

import numpy as np

import stitching.plot
from benchmarks.report import _page
from benchmarks.report._figure import TEXTS, Figure, Panel, figure, forest, panel
from benchmarks.report._numbers import fixed, interval, percent
from benchmarks.report._page import NEEDS_THREE, Page, Section, Table, judged
from benchmarks.report._style import looks

TASK_LOSS, LEAST_SQUARES = "task loss: affine", "least squares"
_SIZES = (  # panel, method, kind of map, and the full map of that kind
    ("ranks", "direct", "reduced rank", LEAST_SQUARES),
    ("ranks", "task loss", "low rank", TASK_LOSS),
    ("penalties", "direct", "sparse", LEAST_SQUARES),
    ("penalties", "task loss", "sparse", TASK_LOSS),
)
_SCORES = {  # drawn layer to layer, with their scales
    "least squares": 100,
    "task loss": 100,
    "r_squared": 100,
    "CKA": 1,
    "CCA": 1,
    "matched correlation": 1,
}
_CONTROLS = ("self_stitch", "shuffled", "noise", "untrained")


def page(result: Any) -> Page:
    """The page of experiments on stitching."""
    (layer, trained), (other, fitted) = (
        worst(result.stitches, name) for name in (TASK_LOSS, LEAST_SQUARES)
    )
    classes = [TEXTS["pages"]["stitching"]["classes"]]
    return _page.page(
        result,
        [
            Section("Layer by layer", figures=[_by_layer(result)]),
            Section("Can it be trusted?", figures=_audit(result)),
            Section("Similarity indices", figures=[_indices(result)]),
            Section("Layer to layer", figures=_crossed(result)),
            Section("How much of the map is needed", figures=_sizes(result)),
            Section("Every class of maps", classes, tables=[_classes(result)]),
        ],
        judged({"": result.claims}),
        count=len(result.networks.test_accuracy),
        ordered=len(result.pairs),
        layers=len(result.layers),
        trained=fixed(trained, 1),
        layer=short(layer),
        fitted=fixed(fitted, 1),
        other=short(other),
        correlation=fixed(result.correlations[TASK_LOSS]["CKA"].mean, 2),
    )


def across(
    stitches: Mapping[str, Any], name: str, measure: str = "relative_accuracy"
) -> dict[str, Any]:
    """A measure of a map by layer, where there is such a map."""
    found = stitches.items()
    return {at: getattr(maps[name], measure) for at, maps in found if name in maps}


def worst(stitches: Mapping[str, Any], name: str) -> tuple[str, float]:
    """The layer at which a map does worst, and its relative accuracy in percent."""
    found = across(stitches, name)
    layer = min(found, key=lambda at: found[at].mean)
    return layer, 100 * found[layer].mean


def short(layer: str) -> str:
    """A layer's name, short enough for a tick."""
    name = layer.rpartition("/")[2].lstrip("_").replace("_", " ")
    return name.lower() if layer.startswith("_") else name


def over_layers(
    numbers: Mapping[str, Any],
    look: Mapping[str, Any],
    scale: float = 100,
    low: float = 0,
    high: float = np.inf,
):
    """Draw means by layer, for a solid line with their intervals as a band."""
    found = [interval(number, scale, low, high) for number in numbers.values()]
    known = all(number.known for number in found) and look["linestyle"] == "solid"
    band = ([n.low for n in found], [n.high for n in found]) if known else None
    means, names = [number.mean for number in found], [*map(short, numbers)]
    return partial(stitching.plot.over_layers, means, names, interval=band, **look)


def lines(name: str, stitches: Any, measure: str, scale: float = 100) -> Panel:
    """A panel with a measure of the maps that every pair has, over the layers."""
    draws, high, top = [], scale if measure == "agreement" else np.inf, 106.0
    logarithmic = measure in ("residual", "distance")
    for kind, look in looks("maps").items():
        numbers = across(stitches, kind, measure)
        if len(numbers) == len(stitches):
            means = [scale * number.mean for number in numbers.values()]
            top = max(top, 1.04 * max(means))
            low = min(means) / 10 if logarithmic else 0.0
            draws.append(over_layers(numbers, look, scale, low, high))
    settings = {} if logarithmic else {"ylim": (0, top)}
    return panel(name, *draws, settings=settings)


def _by_layer(result: Any) -> Figure:
    names = ("relative_accuracy", "agreement")
    return figure("layers", [lines(name, result.stitches, name) for name in names])


def _audit(result: Any) -> list[Figure]:
    scales = {"residual": 100, "distance": 1}.items()
    panels = [lines(name, result.stitches, name, scale) for name, scale in scales]
    figures = [figure("audit", panels)]
    if result.audit:
        layers, panels = result.audit.layers, []
        for method in next(iter(layers.values())):
            audits = {
                short(at): _in_percent(each[method]) for at, each in layers.items()
            }
            draw = partial(stitching.plot.audit, audits)
            panels.append(panel("controls", draw, method=method.capitalize()))
        count = len(result.audit.pairs)
        pairs = _counted(count) + f" (an interval {NEEDS_THREE})" * (count < 3)
        figures.append(figure("controls", panels, pairs=pairs))
    return figures


def _counted(pairs: int) -> str:
    return f"{pairs} pair{'s' * (pairs > 1)}"


def _in_percent(found: Any) -> Any:
    """Means of what `stitching.report.audit` returns, in percent."""

    def measures(accuracy: Any) -> Any:
        return SimpleNamespace(relative_accuracy=100 * accuracy.mean)

    controls = {name: measures(getattr(found.controls, name)) for name in _CONTROLS}
    return SimpleNamespace(
        measures=measures(found.relative_accuracy),
        chance=100 * found.chance.mean,
        controls=SimpleNamespace(**controls),
    )


def _indices(result: Any) -> Figure:
    numbers = {"accuracy": across(result.stitches, TASK_LOSS)}
    for at, every in result.indices.items():
        for name, number in every.items():
            numbers.setdefault(name, {})[at] = number
    draws = [
        over_layers(numbers[name], look, 1)
        for name, look in looks("indices").items()
        if len(numbers.get(name, ())) == len(result.indices)
    ]
    panels = [panel("indices", *draws), correlations("layers", result.correlations)]
    if len(result.pairs) > 2:
        panels.append(correlations("pairs", result.between_pairs))
    if result.cross:
        panels.append(correlations("all", result.cross.correlations))
    return figure("indices", panels)


def correlations(over: str, found: Mapping[str, Mapping[str, Any]]) -> Panel:
    """A panel of rank correlations by what is predicted and index."""
    rows: dict[str, dict[str, Any]] = {}
    marks = {}
    for predicted, by_index in found.items():
        marks[predicted] = looks("correlations")[predicted]
        for index, number in by_index.items():
            row = rows.setdefault(index.replace("r_squared", "R² of the map"), {})
            row[predicted] = interval(number, 1, -1, 1)
    return forest(f"correlations_{over}", rows, marks, limits=(-1.05, 1.05))


def _crossed(result: Any) -> list[Figure]:
    figures = []
    if result.cross:
        panels, found = [], []
        for score, scale in _SCORES.items():
            if score not in result.cross.matrices:  # of an older result
                continue
            name = f"cross_{score.replace(' ', '_')}"
            values = scale * result.cross.matrices[score].clip(0)
            panels.append(_matrix(name, values, result.stitches, None, scale))
            share = percent(result.cross.identification[score].mean, 0)
            found.append(f"{panels[-1].title.removesuffix(', %')} {share} %")
        pairs = _counted(len(result.cross.pairs))
        shares = ", ".join(found)
        figures.append(figure("layer_to_layer", panels, pairs=pairs, found=shares))
    if result.other:
        figures.append(_between_kinds(result, result.other))
    return figures


def _between_kinds(result: Any, other: Any) -> Figure:
    model, width = result.config["model"], result.config["width"]
    names = [_kind(model, width), _kind(other.model, other.width)]
    if model == other.model and None not in (width, other.width):
        names = [f"width {width}", f"width {other.width}"]
    layers = [*result.stitches], [layer.name for layer in other.layers]
    kinds = tuple(zip(names, layers, strict=True))
    panels = []
    for score in ("task loss", "least squares", "CKA"):
        for found, (a, rows), (b, columns) in (
            (other.ahead, *kinds),
            (other.back, *kinds[::-1]),
        ):
            values = _SCORES[score] * found.matrices[score].clip(0)
            # A layer without positions is stitched to no layer that has some.
            fits = np.isfinite(values)
            fits |= not fits.any()
            front, back = fits.any(axis=1), fits.any(axis=0)
            words = {"score": score[0].upper() + score[1:], "a": a, "b": b}
            labels = [*compress(rows, front)], [*map(short, compress(columns, back))]
            drawn = values[front][:, back], *labels, _SCORES[score]
            panels.append(_matrix("between_kinds", *drawn, **words))
    pairs = _counted(len(other.ahead.pairs))
    (a, _), (b, _) = kinds
    return figure("between_kinds", panels, a=a, b=b, pairs=pairs)


def _kind(model: str, width: int | None) -> str:
    return model if width is None else f"{model} {width}"


def _matrix(
    name: str, values: Any, rows: Iterable[str], columns: Any, top: float, **words: Any
) -> Panel:
    """A panel with a row for each layer; columns are layers too, or named."""
    draw = partial(stitching.plot.layer_to_layer, values, [*map(short, rows)], columns)
    return panel(name, partial(draw, limits=(0, top)), **words)


def _sizes(result: Any) -> list[Figure]:
    """How much of a map is needed: relative accuracy by layer and by size."""
    panels = []
    for name, method, kind, full in _SIZES:
        table = []
        for maps in result.stitches.values():
            chosen = [m for m in maps.values() if (m.method, m.kind) == (method, kind)]
            chosen.sort(key=lambda each: each.setting, reverse=name == "penalties")
            row = {f"{m.setting:g}": m.relative_accuracy.mean for m in chosen}
            table.append(row | {"full": maps[full].relative_accuracy.mean})
        sizes, words = list(table[0]), {"method": full.partition(":")[0]}
        if len(sizes) > 1 and all(list(row) == sizes for row in table):
            values = 100 * np.array([list(row.values()) for row in table])
            panels.append(_matrix(name, values, result.stitches, sizes, 100, **words))
    return [figure("sizes", panels)] if panels else []


def _classes(result: Any) -> tuple[str, Table]:
    rows = []
    for name in next(iter(result.stitches.values())):
        found = {at: percent(n.mean) for at, n in across(result.stitches, name).items()}
        rows.append((name, *(found.get(layer, "–") for layer in result.stitches)))
    accuracy = result.networks.test_accuracy
    spread = f"{percent(accuracy.min())} to {percent(accuracy.max())}"
    table = Table(("map", *map(short, result.stitches)), rows)
    return f"The networks themselves have {spread} % test accuracy", table
