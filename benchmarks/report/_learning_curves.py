"""Losses along training, with their spread over seeds."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._axes import (
    count_steps,
    name_best_baseline,
    round_log_ticks,
    shade,
)
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array, best_baseline, entries, schedules
from benchmarks.report._style import Style, emphasised, styles

_NAMES = {"train_loss": "Training loss", "validation_loss": "Validation loss"}

# Stand for zero and infinity on a logarithmic axis.
_BELOW, _BEYOND = 1e-12, 1e6


def learning_curves(result: dict[str, Any]) -> Figure:
    """Training and validation loss of every method at its selected setting."""
    looks = styles(result["methods"])
    panels = [
        Panel(f"{name}, {schedule} rate", _drawing(result, looks, schedule, metric))
        for schedule in schedules(result)
        for metric, name in _NAMES.items()
    ]
    seeds = max(len(e["seeds"]) for m in result["methods"].values() for e in m.values())
    text = (
        f"Median over {seeds} fresh seeds, each method at the setting that its own "
        f"trials selected. The bands of the learned laws and of the best baseline span "
        f"all seeds. A line ends where half of the seeds or more have diverged.",
        "The axis counts steps, not seconds: what a step costs is in the table. The "
        "spread of the other baselines is in the table too.",
    )
    return Figure(
        "learning_curves", "Learning curves", text, tuple(panels), tuple(looks.values())
    )


def _drawing(result: dict[str, Any], looks: dict[str, Style], schedule: str, metric):
    best = best_baseline(result, schedule)
    looks = emphasised(looks, best)

    def draw(axes: Axes) -> None:
        curves = {
            method: _drawable(array(entry["curves"][metric]))
            for method, entry in entries(result, schedule)
        }
        for method, entry in entries(result, schedule):
            style, steps = looks[method], array(entry["curves"]["steps"])
            middle = np.median(curves[method], axis=0)
            axes.plot(steps, np.where(middle < np.inf, middle, np.nan), **style.line)
            if style.learned or method == best:
                band = np.minimum(_extremes(curves[method]), _BEYOND)
                axes.fill_between(steps, *band, **shade(style))
        axes.set_yscale("log")
        count_steps(axes)
        _loss_limits(axes, curves, looks)
        if best is not None:
            name_best_baseline(axes, looks[best])

    return draw


def _drawable(losses: np.ndarray) -> np.ndarray:
    """Losses that a logarithmic axis can show; what is not finite is infinite."""
    return np.maximum(np.nan_to_num(losses, nan=np.inf, posinf=np.inf), _BELOW)


def _extremes(values: np.ndarray) -> np.ndarray:
    return np.stack([values.min(axis=0), values.max(axis=0)])


def _loss_limits(axes: Axes, curves: dict[str, np.ndarray], looks) -> None:
    """The lower part, where methods differ, but with every learned law in it."""
    ends = {name: np.median(values[:, -1]) for name, values in curves.items()}
    ends = {name: end for name, end in ends.items() if np.isfinite(end)}
    starts = array([np.median(values[:, 0]) for values in curves.values()])
    if ends:
        lowest = min(ends.values())
        learned = [end for name, end in ends.items() if looks[name].learned]
        top = max(
            [2 * np.quantile(list(ends.values()), 0.9), *(3 * e for e in learned)]
        )
        top = min(top, np.median(starts))
        bands = [curves[name][:, -1].min() for name in ends if looks[name].learned]
        lowest = max(min([lowest, *bands]), lowest / 3)
        axes.set_ylim(lowest * 0.85, max(top, lowest * 2))
    round_log_ticks(axes)
