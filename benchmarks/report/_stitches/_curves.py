"""How much of a map is needed: ranks and sparsity."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._stitches._look import at_network_2, by_depth

_PANELS = (
    ("Rank, least squares", "direct", "reduced rank", "least squares"),
    ("Rank, task loss", "task loss", "low rank", "task loss: affine"),
    ("Entries, least squares", "direct", "sparse", "least squares"),
    ("Entries, task loss", "task loss", "sparse", "task loss: affine"),
)


def curves(result: dict[str, Any]) -> Figure:
    """Relative accuracy against the rank and against the entries that are kept."""
    panels = tuple(
        Panel(title, _drawing(result, *asked))
        for title, *asked in _PANELS
        if _has(result, asked[1])
    )
    text = (
        "Relative accuracy of maps of a bounded rank, and of maps with few entries "
        "other than zero (the lasso; an L1 penalty by proximal steps), a line for "
        "each layer, early ones darker. The right end is the map without a bound.",
        "Sparse maps, and all trained on the task but the affine one, are of few "
        "pairs.",
    )
    looks = tuple(by_depth(list(result["stitches"])).values())
    return Figure("curves", "How much of the map is needed", text, panels, looks)


def _has(result: dict[str, Any], kind: str) -> bool:
    maps = next(iter(result["stitches"].values()))
    return any(entry["kind"] == kind for entry in maps.values())


def _drawing(result: dict[str, Any], way: str, kind: str, full: str):
    def draw(axes: Axes) -> None:
        styles = by_depth(list(result["stitches"]))
        for layer, maps in result["stitches"].items():
            x, y = _line(maps, way, kind, full)
            axes.plot(x, y, marker="o", markersize=3, **styles[layer].line)
        at_network_2(axes)
        axes.set_ylim(0, 1.06)
        axes.set_xlim(left=0)
        what = "share of entries" if kind == "sparse" else "share of the full rank"
        axes.set_xlabel(what, loc="left")

    return draw


def _line(maps: Mapping[str, Any], way: str, kind: str, full: str) -> np.ndarray:
    """Sizes and relative accuracies, the whole map last."""
    points = []
    for entry in maps.values():
        if (entry["way"], entry["kind"]) == (way, kind):
            size = entry["density"] if kind == "sparse" else entry["at"]
            points.append((size, entry["relative_accuracy"]["mean"]))
    points.append((1.0, maps[full]["relative_accuracy"]["mean"]))
    return np.array(sorted(points), float).T
