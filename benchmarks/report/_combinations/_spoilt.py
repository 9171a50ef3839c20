"""Robustness: errors while the matching is spoilt."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._axes import shade
from benchmarks.report._combinations._look import by_width
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._style import FAINT


def robustness(result: dict[str, Any]) -> Figure:
    """Excess errors against units moved and objective lost, and barriers."""
    panels = (
        Panel("Excess error of combinations", _drawing(result, "moved", "excess")),
        Panel("The same against the match lost", _drawing(result, "lost", "excess")),
        Panel("Barrier, test error", _drawing(result, "moved", "barrier")),
    )
    text = (
        "A part of the matched units is moved by random transpositions. The excess is "
        "the mean test error of uniform random combinations beyond their parents', in "
        "percentage points, with 95 % intervals over networks; the line at two points "
        "is what still counts as working.",
        "The match lost is the part of the matching's inner product, above that of "
        "random permutations, that the perturbation costs.",
    )
    looks = tuple(by_width(result).values())
    return Figure("robustness", "Robustness of the matching", text, panels, looks)


def _drawing(result: dict[str, Any], across: str, what: str):
    def draw(axes: Axes) -> None:
        for width, style in by_width(result).items():
            found = result["widths"][width]["robustness"]
            numbers = [row[what]["test_error"] for row in found["rows"]]
            mean, low, high = (
                100 * array([n[key] for n in numbers])
                for key in ("mean", "low", "high")
            )
            x = 100 * array(found[across])
            axes.plot(x, mean, **style.line)
            if np.isfinite(low).all():
                axes.fill_between(x, low, high, **shade(style))
        if what == "excess":
            axes.axhline(2, color=FAINT, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.set_ylim(bottom=0)
        name = "units moved, %" if across == "moved" else "match lost, %"
        axes.set_xlabel(name, loc="left")

    return draw
