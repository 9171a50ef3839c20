"""Plots of comparisons: learning curves, trials of a search, intervals in rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.axes import Axes

from benchmarks.report._numbers import Interval
from benchmarks.report._style import COLOURS, FAINT, INK

__all__ = ["curve", "diagonal", "forest", "over", "points", "trials"]


def curve(
    steps: Float[ArrayLike, " points"],
    values: Float[ArrayLike, "seeds points"],
    *,
    band: bool = True,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the median over seeds along training; a band may span all seeds.

    The line ends where half of the seeds or more are not finite.

    Example:
        >>> axes = curve([1, 2], [[3.0, 1.0], [2.0, 0.5], [4.0, float("nan")]])
        >>> axes.lines[0].get_ydata().tolist()
        [3.0, 1.0]
    """
    ax = plt.subplots()[1] if ax is None else ax
    values = np.nan_to_num(np.asarray(values, float), nan=np.inf, posinf=np.inf)
    middle = np.sort(values, axis=0)[values.shape[0] // 2]
    drawn = ax.plot(steps, np.where(middle < np.inf, middle, np.nan), **line)[0]
    if band:
        top = np.minimum(values.max(axis=0), 1e6)
        shade: dict[str, Any] = {"color": drawn.get_color(), "alpha": 0.12}
        ax.fill_between(steps, values.min(axis=0), top, linewidth=0, **shade)
    return ax


def trials(
    rates: Float[ArrayLike, " trials"],
    losses: Float[ArrayLike, " trials"],
    selected: int | None = None,
    *,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the trials of a search over a rate, joined in its order.

    Trials that are not finite are left out; the selected one has a larger dot.

    Example:
        >>> axes = trials([1.0, 0.1, 10.0], [1.0, 2.0, float("inf")], 0)
        >>> axes.lines[0].get_ydata().tolist()
        [2.0, 1.0]
    """
    ax = plt.subplots()[1] if ax is None else ax
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    kept = [i for i in np.argsort(rates) if np.isfinite(losses[i])]
    look: dict[str, Any] = {"marker": "o", "markersize": 3} | line
    drawn = ax.plot(rates[kept], losses[kept], **look)[0]
    if selected in kept:
        ax.plot(rates[selected], losses[selected], "o", color=drawn.get_color())
    if kept:
        ax.set_xscale("log")
    return ax


def points(
    x: Float[ArrayLike, " points"],
    y: Float[ArrayLike, " points"],
    *,
    ax: Axes | None = None,
    **look: Any,
) -> Axes:
    """Plot points that are not joined.

    Example:
        >>> axes = points([1.0, 2.0], [3.0, 4.0], label="some")
        >>> axes.lines[0].get_linestyle()
        'None'
    """
    ax = plt.subplots()[1] if ax is None else ax
    look = {"marker": "o", "markersize": 5, "alpha": 0.8} | look | {"linestyle": "none"}
    ax.plot(np.asarray(x, float), np.asarray(y, float), **look)
    return ax


def diagonal(*, ax: Axes) -> None:
    """Draw the line on which y is x."""
    ax.axline((1.0, 1.0), slope=1.0, color=FAINT, linestyle=(0, (4, 2)), zorder=0)


def over(
    numbers: Sequence[Interval],
    *,
    shift: float = 0.0,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot numbers side by side with their intervals, joined by a line.

    A dot is filled where the interval excludes zero.

    Args:
        numbers: at places 0, 1, …
        shift: added to the places, so that several lines stand apart.
        ax: axes to draw on; by default those of a new figure.
        **line: of Matplotlib's `plot`.

    Example:
        >>> axes = over([Interval(-1.0, -2.0, -0.5), Interval(0.5, 0.0, 1.0)])
        >>> axes.lines[1].get_ydata().tolist()
        [-1.0, 0.5]
    """
    ax = plt.subplots()[1] if ax is None else ax
    ax.axhline(0.0, color=FAINT, linewidth=0.9, zorder=1)
    places, rows = np.arange(len(numbers)) + shift, np.array(numbers, float)
    look: dict[str, Any] = {"linewidth": 1.0} | line
    drawn = ax.plot(places, rows[:, 0], **look)[0]
    colour = drawn.get_color()
    for place, number in zip(places, numbers, strict=True):
        face = colour if number.side else COLOURS["page"][0]
        ax.plot([place] * 2, [number.low, number.high], color=colour, linewidth=1.6)
        dot: dict[str, Any] = {"markersize": 5, "markerfacecolor": face}
        ax.plot([place], [number.mean], "o", color=colour, **dot)
    return ax


def forest(
    rows: Mapping[str, Mapping[str, Interval]],
    looks: Mapping[str, Mapping[str, Any]],
    *,
    zero: float | None = 0.0,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot numbers with their intervals in rows, several groups to a row.

    A dot is filled where the interval excludes `zero`; a number without an interval is
    a cross. What lies beyond the limits is an arrow at the edge.

    Args:
        rows: name of a row -> group -> its number.
        looks: group -> `color` of its marks, and a `label` for the legend.
        zero: a vertical line.
        limits: of the horizontal axis; by default wide enough for nearly all.
        ax: axes to draw on; by default those of a new figure.

    Example:
        >>> axes = forest({"Adam": {"run": Interval(-1.0, -2.0, -0.5)}}, {"run": {}})
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['Adam']
    """
    ax = plt.subplots()[1] if ax is None else ax
    found = [number for groups in rows.values() for number in groups.values()]
    ax.set_xlim(*(limits or _frame(found, zero)))
    apart = min(0.22, 0.7 / len(looks))
    for place, (group, look) in enumerate(looks.items()):
        colour, shift = look.get("color", INK), (place - (len(looks) - 1) / 2) * apart
        if "label" in look:
            ax.plot([], [], "o", color=colour, label=look["label"], markersize=5)
        for row, groups in enumerate(rows.values()):
            if group in groups and np.isfinite(groups[group].mean):
                _mark(ax, row + shift, groups[group], zero, colour)
    if zero is not None:
        ax.axvline(zero, color=FAINT, linewidth=0.9, zorder=1)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(left=False)
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    return ax


def _mark(ax: Axes, y: float, number: Interval, zero: float | None, colour: str):
    left, right = ax.get_xlim()
    mean = float(np.clip(number.mean, left, right))
    shape = "<" if number.mean < left else ">" if number.mean > right else "o"
    clear = zero is None or number.low > zero or number.high < zero
    if number.known:
        ends = np.clip([number.low, number.high], left, right)
        ax.plot(ends, [y, y], color=colour, linewidth=1.6)
    elif shape == "o":
        shape, clear = "x", True
    face = colour if clear else "none"
    dot: dict[str, Any] = {"markersize": 5, "markerfacecolor": face, "clip_on": False}
    ax.plot([mean], [y], shape, color=colour, **dot)


def _frame(found: list[Interval], zero: float | None) -> tuple[float, float]:
    """Wide enough for nearly all: one far number must not flatten the rest."""
    ends = np.array([(n.low, n.high) if n.known else (n.mean,) * 2 for n in found])
    ends = ends[np.isfinite(ends).all(axis=1)] if len(ends) else ends.reshape(0, 2)
    if not ends.size:
        return -1.0, 1.0
    middle = np.median(ends) if zero is None else zero
    widest = 4 * np.quantile(np.abs(ends - middle).max(axis=1), 0.75)
    low, high = np.clip([ends.min(), ends.max()], middle - widest, middle + widest)
    low, high = min(low, middle), max(high, middle)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
