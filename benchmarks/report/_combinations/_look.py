"""Colours of controls and widths, and intervals as bars with whiskers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._numbers import array
from benchmarks.report._style import INK, Style, colour

CONTROLS = {
    "not matched": Style("not matched", False, colour("base-1"), 1.6, (4, 1.5)),
    "not matched, temperature": Style(
        "not matched, temperature", False, colour("base-2"), 1.6, (1.2, 1.4)
    ),
    "matched": Style("matched", True, colour("rllc-1"), 2.1),
    "matched, temperature": Style(
        "matched, temperature", True, colour("rllc-3"), 2.1, (5, 1.5)
    ),
    "matched, repaired": Style("matched, repaired", True, colour("rllc-2"), 2.1),
}


def by_width(result: dict[str, Any]) -> dict[str, Style]:
    """A style for each width."""
    return {
        width: Style(f"width {width}", True, colour(f"rllc-{place % 6 + 1}"), 2.0)
        for place, width in enumerate(result["widths"])
    }


def whiskers(
    axes: Axes, places: Sequence[float], numbers: Sequence[Mapping], style: Style, size
) -> None:
    """Bars of means with their intervals."""
    mean, low, high = (
        array([n[key] for n in numbers]) for key in ("mean", "low", "high")
    )
    axes.bar(places, mean, size, color=style.colour, alpha=0.75, zorder=2)
    for place, m, lo, hi in zip(places, mean, low, high, strict=True):
        if np.isfinite([lo, hi]).all():
            axes.plot([place, place], [lo, hi], color=INK, linewidth=1.2, zorder=4)
        axes.plot(place, m, "_", color=INK, markersize=7, zorder=4)


def grouped(
    axes: Axes,
    groups: Sequence[str],
    rows: Mapping[str, Sequence[Mapping]],
    looks: Mapping[str, Style],
) -> None:
    """Groups of bars: a group for each name, in it a bar for each row."""
    size = 0.8 / len(rows)
    for place, (name, numbers) in enumerate(rows.items()):
        shift = (place - (len(rows) - 1) / 2) * size
        at = [group + shift for group in range(len(groups))]
        whiskers(axes, at, numbers, looks[name], 0.9 * size)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.tick_params(bottom=False)
    axes.axhline(0, color=INK, linewidth=0.8)
