"""How much the learning rate matters."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.report._axes import name_best_baseline, round_log_ticks
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import (
    array,
    best_baseline,
    entries,
    power_of_ten,
    schedules,
)
from benchmarks.report._style import PAGE, Style, emphasised, styles


def sensitivity(result: dict[str, Any]) -> Figure:
    """Validation loss of every trial against its learning rate."""
    looks = styles(result["methods"])
    panels = [
        Panel(f"Validation loss, {schedule} rate", _drawing(result, looks, schedule))
        for schedule in schedules(result)
    ]
    text = (
        "Every trial of the search is a small dot, the one that was selected a large "
        "one; a line is the lower convex hull of a method's trials. Crosses at the "
        "upper edge are trials of learned laws that diverged.",
        "A wide, flat valley forgives a poor guess. Rates of different methods are not "
        "on one scale: compare the valleys' widths and depths, not their places. Where "
        "no learning rate was tuned, the axis shows what was. One seed a trial.",
    )
    return Figure(
        "learning_rate_sensitivity",
        "Sensitivity to the learning rate",
        text,
        tuple(panels),
        tuple(looks.values()),
    )


def _rate(entry: dict[str, Any], hyper: dict[str, Any]) -> float:
    """The learning rate or, without one, what is tuned in its place."""
    return hyper.get("learning_rate", hyper[next(iter(entry["space"]))])


def _trials(entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    rates = array([_rate(entry, trial["hyper"]) for trial in entry["trials"]])
    losses = array([trial["validation_loss"] for trial in entry["trials"]])
    diverged = np.array([trial["diverged"] for trial in entry["trials"]], bool)
    return rates, np.where(diverged | ~np.isfinite(losses), np.inf, losses)


def _drawing(result: dict[str, Any], looks: dict[str, Style], schedule: str):
    best = best_baseline(result, schedule)
    looks = emphasised(looks, best)

    def draw(axes: Axes) -> None:
        drawn = {method: _trials(entry) for method, entry in entries(result, schedule)}
        low, high = _frame([losses.min() for _, losses in drawn.values()])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        for method, entry in entries(result, schedule):
            rates, losses = drawn[method]
            _valley(axes, looks[method], rates, losses, high)
            at = np.isclose(rates, _rate(entry, entry["selected"]))
            if np.isfinite(losses[at]).any():
                _dot(axes, looks[method], rates[at][0], losses[at].min())
        if best is not None:
            name_best_baseline(axes, looks[best])
        axes.set_xlabel("learning rate", loc="left")
        axes.xaxis.set_major_locator(LogLocator(numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(power_of_ten))
        round_log_ticks(axes)

    return draw


def _valley(axes: Axes, style: Style, rates, losses, high: float) -> None:
    inside, finite = losses <= high, np.isfinite(losses)
    hull = lower_hull(np.log(rates[finite]), losses[finite])
    axes.plot(np.exp(hull[:, 0]), hull[:, 1], **style.line)
    dots = {"s": 8, "color": style.colour, "linewidths": 0, "zorder": 3}
    axes.scatter(rates[inside], losses[inside], alpha=0.5, **dots)
    if style.learned:
        diverged = rates[~finite]
        cross = {"marker": "x", "s": 14, "linewidths": 1.2, "clip_on": False}
        axes.scatter(
            diverged, np.full(diverged.shape, high), color=style.colour, **cross
        )


def lower_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The corners, shape (n, 2), of the lower convex hull of points, from the left.

    Example:
        >>> lower_hull(np.array([0, 1, 2, 3]), np.array([3, 0, 2, 1])).tolist()
        [[0, 3], [1, 0], [3, 1]]
    """
    corners: list[np.ndarray] = []
    for point in np.stack([x, y], axis=1)[np.lexsort((y, x))]:
        if corners and point[0] == corners[-1][0]:
            continue  # the lowest of this rate came first
        while len(corners) > 1 and _is_below(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return np.array(corners).reshape(-1, 2)


def _is_below(first: np.ndarray, middle: np.ndarray, last: np.ndarray) -> bool:
    """Whether the line from first to last passes below the middle, or through it."""
    (dx, dy), (ex, ey) = middle - first, last - first
    return dx * ey - dy * ex <= 0


def _dot(axes: Axes, style: Style, rate: float, loss: float) -> None:
    axes.plot(
        [rate],
        [loss],
        "o",
        markersize=7 if style.learned else 5.5,
        color=style.colour,
        markeredgecolor=PAGE,
        markeredgewidth=1,
        zorder=5,
    )


def _frame(best: list[float]) -> tuple[float, float]:
    """From the best loss to well above nearly every method's best."""
    finite = array([loss for loss in best if np.isfinite(loss)])
    if not finite.size:
        return 0.1, 1.0
    return finite.min() * 0.93, max(np.quantile(finite, 0.9) * 1.3, finite.min() * 2.2)
