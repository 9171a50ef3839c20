"""Paired differences between RLLC variants and baselines, with their uncertainty."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array, mean_and_deviation, schedules, significant
from benchmarks.report._style import FAINT, INK, PAGE, Style, label, styles

_ROW = 0.23  # inches
_NAMES = {
    "validation_loss": "validation loss",
    "train_loss": "training loss",
    "validation_error": "validation error",
}


def differences(result: dict[str, Any]) -> list[Figure]:
    """Forest plots, one a metric: each RLLC variant against each baseline."""
    looks = styles(result["methods"])
    found = {row["metric"] for row in result.get("comparisons", [])}
    return [
        Figure(
            f"differences_{metric}",
            f"Paired differences in {name}",
            _text(metric),
            tuple(_panels(result, looks, metric)),
            folded=metric != "validation_loss",
        )
        for metric, name in _NAMES.items()
        if metric in found
    ]


def _text(metric: str) -> tuple[str, ...]:
    scale = "in percentage points" if "error" in metric else "in percent of its value"
    return (
        f"Difference to each baseline, {scale}, on the same seeds, hence the same "
        "start and batches, with 95 % t intervals. A dot is filled where the interval "
        "excludes zero. At the right, the mean and how many seeds favour the method.",
        "Many intervals are shown at once and none is corrected for that: of twenty "
        "true zeros about one excludes zero by chance. The seeds vary start and order "
        "of the data, not the data set nor the search. A seed on which a loss is not "
        "finite has no difference and is left out: see the column of divergence too.",
    )


def _panels(result: dict[str, Any], looks: dict[str, Style], metric: str):
    for schedule in schedules(result):
        rows = [
            row
            for row in result["comparisons"]
            if (row["metric"], row["schedule"]) == (metric, schedule)
        ]
        if rows:
            methods = {row["method"] for row in rows}
            height = 1.0 + _ROW * (len(rows) + 1.5 * len(methods))
            title = f"{_NAMES[metric].capitalize()}, {schedule} rate"
            yield Panel(title, _drawing(result, rows, looks), height)


def _drawing(result: dict[str, Any], rows: list[dict], looks: dict[str, Style]):
    def draw(axes: Axes) -> None:
        shares = [_share(result, row) for row in rows]
        axes.set_xlim(*_frame(shares))
        places, left, right = [], [], []
        for method in dict.fromkeys(row["method"] for row in rows):
            places.append(places[-1] + 1.5 if places else 0.0)
            left.append((looks[method].label, looks[method].colour, "bold"))
            right.append("")
            for row, share in zip(rows, shares, strict=True):
                if row["method"] == method:
                    places.append(places[-1] + 1)
                    left.append((label(row["against"]), INK, "normal"))
                    right.append(_counts(share, row))
                    _interval(axes, places[-1], share, looks[method].colour)
        axes.set_ylim(places[-1] + 0.8, -0.8)
        _name_rows(axes, places, left, right)
        _name_sides(axes)

    return draw


def _share(result: dict[str, Any], row: dict) -> np.ndarray:
    """Low, mean and high: losses in percent of the baseline's, errors in points."""
    found = array([row["low"], row["mean_difference"], row["high"]])
    if "error" in row["metric"]:
        return 100 * found
    against = result["methods"][row["against"]][row["schedule"]][row["metric"]]
    return 100 * found / mean_and_deviation(against)[0]


def _frame(shares: list[np.ndarray]) -> tuple[float, float]:
    """Wide enough for nearly all: one hopeless baseline must not flatten the rest."""
    found = array([share for share in shares if np.isfinite(share).all()])
    if not found.size:
        return -1.0, 1.0
    widest = 3 * np.median(np.abs(found).max(axis=1))
    low, high = np.clip([found.min(), found.max()], -widest, widest)
    margin = 0.08 * (max(high, 0) - min(low, 0))
    return min(low, 0) - margin, max(high, 0) + margin


def _interval(axes: Axes, place: float, share: np.ndarray, colour: str) -> None:
    if not np.isfinite(share).all():
        return
    left, right = axes.get_xlim()
    low, mean, high = np.clip(share, left, right)
    axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
    clear = share[0] > 0 or share[2] < 0
    if left < share[1] < right:
        face = colour if clear else PAGE
        axes.plot(mean, place, "o", color=colour, markerfacecolor=face, markersize=5.5)
    if share[0] < left:
        axes.plot(left, place, "<", color=colour, markersize=5, clip_on=False)
    if share[2] > right:
        axes.plot(right, place, ">", color=colour, markersize=5, clip_on=False)


def _counts(share: np.ndarray, row: dict) -> str:
    sign = "+" if share[1] > 0 else ""
    unit = "" if "error" in row["metric"] else " %"
    mean = significant(share[1], 2)
    return f"{sign}{mean}{unit}\u2003{row['better']}/{row['pairs']}"


def _name_rows(axes: Axes, places: list[float], left: list[tuple], right) -> None:
    axes.set_yticks(places, [name for name, _, _ in left])
    for tick, (_, colour, weight) in zip(axes.get_yticklabels(), left, strict=True):
        tick.set_color(colour)
        tick.set_fontweight(weight)
    axes.grid(False)
    axes.axvline(0, color=FAINT, linewidth=0.9, zorder=1)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    numbers = axes.twinx()
    axes.tick_params(left=False)
    numbers.set_ylim(axes.get_ylim())
    numbers.set_yticks(places, right, fontsize=8.5)
    numbers.tick_params(right=False)
    numbers.spines["left"].set_visible(False)
    numbers.grid(False)


def _name_sides(axes: Axes) -> None:
    axes.set_xlabel("← method ahead\u2003\u2003baseline ahead →")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
    )
