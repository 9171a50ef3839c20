"""Every layer of one network against every layer of another."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._stitches._look import short
from benchmarks.report._style import INK, PAGE

_SCORES = {
    "relative_accuracy": "Relative accuracy, least squares",
    "r_squared": "R², held out",
    "CKA": "CKA",
    "CCA": "Mean squared CCA correlation",
}


def layer_to_layer(result: dict[str, Any]) -> Figure | None:
    """Matrices of what least squares and indices say of every pair of layers."""
    cross = result["cross"]
    if not cross:
        return None
    names = list(result["stitches"])
    panels = tuple(
        Panel(title, _drawing(cross["matrices"][score], names), 3.9)
        for score, title in _SCORES.items()
    )
    found = cross["identification"]
    told = ", ".join(
        f"{name.partition(',')[0]} {100 * found[score]['mean']:.0f} %"
        for score, name in _SCORES.items()
    )
    text = (
        "Rows are layers of network 1, columns layers of network 2; maps of another "
        "size are resized first. Brighter is more alike. Networks of one architecture "
        f"are expected to match along the diagonal. Mean over {len(cross['pairs'])} "
        "pairs of networks.",
        "Share of network 2's layers for which the same layer of network 1 scores "
        f"highest: {told}.",
        "Indices compare positions as samples, after resizing. Low R² is drawn as 0.",
    )
    return Figure("layer_to_layer", "Layer to layer", text, panels)


def _drawing(matrix: list, names: list[str]):
    def draw(axes: Axes) -> None:
        values = array(matrix)
        axes.imshow(np.clip(values, 0, 1), cmap="viridis", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(
                    j,
                    i,
                    _two_digits(value),
                    ha="center",
                    va="center",
                    fontsize=7.5 if len(names) <= 8 else 6.5,
                    color=INK if value > 0.6 else PAGE,
                )
        ticks = [short(name) for name in names]
        axes.set_xticks(range(len(names)), ticks, rotation=35, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), ticks, fontsize=8)
        axes.set_xlabel("layer of network 2", loc="left")
        axes.set_ylabel("layer of network 1", loc="bottom")
        axes.grid(False)
        axes.tick_params(bottom=False, left=False)
        axes.spines[:].set_visible(False)

    return draw


def _two_digits(value: float) -> str:
    """Two decimals without the zero in front; whole numbers far below 0."""
    if value < -1:
        return f"−{-value:.0f}"
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")
