"""Errors of random combinations, a row for each distribution."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._style import FAINT, INK, colour

_ROW = 0.27  # inches


def hypercube(result: dict[str, Any]) -> Figure:
    """Percentiles of the test error for every distribution and granularity."""
    panels = [
        Panel(f"Width {width}", _drawing(found), 1.0 + _ROW * len(found["hypercube"]))
        for width, found in result["widths"].items()
    ]
    text = (
        "Test error of random element-wise combinations. A thin line reaches from the "
        "5th to the 95th percentile, a thick one from the 25th to the 75th, a dot is "
        "the median. The shaded band is where the trained networks are; it ends two "
        "percentage points above their mean: what is left of that works.",
        "Grey rows combine networks that are not matched. All pairs of a row are laid "
        "together, as many combinations of each.",
    )
    return Figure("hypercube", "All over the hypercube", text, tuple(panels))


def taste(found: dict[str, Any]) -> Figure:
    """Two networks combined before and after matching."""
    panel = Panel(f"Two networks of width {found['width']}", _drawing(found), 1.8)
    text = (
        "A thousand random element-wise combinations of two networks trained from "
        "different seeds, with and without matching their hidden units first. The "
        "shaded band is where the two networks are, up to two percentage points above.",
        "One pair of small networks on an easy task.",
    )
    return Figure("combinations", "Between two networks", text, (panel,))


def _drawing(found: dict[str, Any]):
    def draw(axes: Axes) -> None:
        parents = array([scores["test_error"] for scores in found["parents"]])
        band = 100 * parents.min(), 100 * (parents.mean() + 0.02)
        axes.axvspan(*band, color=colour("rllc-3"), alpha=0.15, linewidth=0)
        names = []
        for place, (name, cell) in enumerate(found["hypercube"].items()):
            values = 100 * array(cell["test_error"]["percentiles"])
            tone = colour("rllc-1") if cell["cell"]["aligned"] else FAINT
            axes.plot(values[[5, 95]], [place] * 2, color=tone, linewidth=1.2)
            axes.plot(values[[25, 75]], [place] * 2, color=tone, linewidth=4.5)
            axes.plot(values[50], place, "o", color=INK, markersize=3.6, zorder=4)
            names.append(name)
        axes.set_yticks(np.arange(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.tick_params(left=False)
        axes.grid(False, axis="y")
        axes.grid(True, axis="x")
        axes.set_xlabel("test error, %", loc="left")

    return draw
