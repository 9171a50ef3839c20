"""Axes that are easy to read: few ticks, round numbers, names at the lines' ends."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.report._style import Style

_DIGITS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 3), (1,))  # finest first


def count_steps(axes: Axes) -> None:
    """A horizontal axis of training steps."""
    axes.set_xlabel("step", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))


def round_log_ticks(axes: Axes) -> None:
    """From three to seven round numbers on a logarithmic vertical axis."""
    low, high = axes.get_ylim()
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))))
    for digits in _DIGITS:
        found = [digit * 10.0**decade for decade in decades for digit in digits]
        found = [tick for tick in found if low <= tick <= high]
        if 3 <= len(found) <= 7:
            ticks = found
            break
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def shade(style: Style) -> dict:
    """Keyword arguments of matplotlib's `fill_between` for a method's spread."""
    return {"color": style.colour, "alpha": 0.16, "linewidth": 0, "zorder": 2}


def name_best_baseline(axes: Axes, style: Style) -> None:
    """Names the baseline that steps forward, below the frame: nothing is covered."""
    handle = Line2D([], [], **style.line, label=f"best baseline: {style.label}")
    place = {"loc": "upper right", "bbox_to_anchor": (1.02, -0.09)}
    axes.legend(handles=[handle], frameon=False, fontsize=9, **place)


def name_ends(axes: Axes, x: float, ends: np.ndarray, names, colour: str) -> None:
    """Names at the right ends of lines, moved apart where they would overlap."""
    axes.set_xlim(right=x)
    low, high = axes.get_ylim()
    apart = 0.09 * (high - low)
    order = np.argsort(ends)
    places = ends[order].astype(float)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + apart)
    places -= (places - ends[order]).mean()
    for i, place in zip(order, places, strict=True):
        axes.annotate(
            names[i],
            (x, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )
