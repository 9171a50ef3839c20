"""Planes through the landscape, as contours of the test error."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._style import INK, PAGE

_PLANES = {
    "not matched": ("Three networks, not matched", ("A", "B", "C")),
    "aligned": ("Three networks, aligned to A", ("A", "π(B)", "π(C)")),
    "vertices": ("A and two vertices of the cube", ("A", "V", "W")),
}


def landscape(result: dict[str, Any]) -> Figure:
    """Planes of the largest width."""
    width, found = list(result["widths"].items())[-1]
    panels = tuple(
        Panel(f"{name}, width {width}", _drawing(found["landscape"][plane], marks), 3.2)
        for plane, (name, marks) in _PLANES.items()
    )
    text = (
        "Test error, in percent, on the plane through three points of parameter space. "
        "Darker is lower. Vertices take each parameter from either of two aligned "
        "networks, by a coin.",
        "A plane shows three points and what lies between; nothing of the other "
        "dimensions.",
    )
    return Figure("landscape", "Planes through the landscape", text, panels)


def _drawing(plane: dict[str, Any], names: tuple[str, ...]):
    def draw(axes: Axes) -> None:
        errors = 100 * array(plane["test_error"])
        low = max(errors.min(), 0.1)
        levels = np.unique(
            np.round(np.geomspace(low, max(errors.max(), 2 * low), 12), 2)
        )
        drawn = axes.contourf(plane["x"], plane["y"], errors, levels, cmap="viridis")
        lines = axes.contour(
            plane["x"], plane["y"], errors, levels[1::2], colors=PAGE, linewidths=0.6
        )
        axes.clabel(lines, fontsize=7, fmt=lambda level: f"{level:.3g}")
        drawn.set_edgecolor("face")
        for name, (x, y) in zip(names, plane["marks"], strict=True):
            axes.plot(x, y, "o", color=PAGE, markeredgecolor=INK, markersize=6)
            axes.annotate(
                name,
                (x, y),
                (4, 5),
                textcoords="offset points",
                color=PAGE,
                weight="bold",
            )
        axes.grid(False)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])

    return draw
