"""Trials: which hyper-parameters are tried and which of them is taken."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from benchmarks.baselines import Method, Range

# All methods try the same points of the unit cube.
_SEARCH_SEED = 0


def sample(method: Method, trials: int, widen: float = 1.0) -> list[dict[str, float]]:
    """Draws the hyper-parameters of every trial from a scrambled Halton sequence.

    Args:
      method: Whose space is sampled.
      trials: How many to draw.
      widen: Factor by which the rate's range is widened on both sides.

    Returns:
      The hyper-parameters of each trial.

    Example:
      >>> from benchmarks.baselines import BASELINES
      >>> [round(trial["learning_rate"], 4) for trial in sample(BASELINES["adam"], 2)]
      [0.0132, 0.0004]
    """
    ranges = space(method, widen)
    sampler = qmc.Halton(len(ranges), scramble=True, rng=_SEARCH_SEED)
    return [
        {name: ranges[name].at(float(u)) for name, u in zip(ranges, point, strict=True)}
        for point in sampler.random(trials)
    ]


def space(method: Method, widen: float = 1.0) -> dict[str, Range]:
    """Returns the method's space, the rate's range widened."""
    ranges = dict(method.space)
    ranges[method.rate] = ranges[method.rate].widened(widen)
    return ranges


def describe(method: Method, widen: float = 1.0) -> dict[str, Any]:
    """Returns the space as results record it."""
    ranges = {
        name: [one.low, one.high, one.scale]
        for name, one in space(method, widen).items()
    }
    return {**ranges, **method.fixed}


def select(
    method: Method, trials: Sequence[dict[str, float]], losses: Any, diverged: Any
) -> tuple[int, bool]:
    """Takes the trial with the lowest loss; diverged trials lose.

    Args:
      method: What was tried.
      trials: Hyper-parameters of each trial.
      losses: Validation loss of each.
      diverged: Whether each diverged.

    Returns:
      The index of the best trial, and whether its rate is the lowest or the highest
      that was tried. If every trial diverged, the lowest rate is taken.
    """
    rates = np.array([trial[method.rate] for trial in trials])
    lost = np.asarray(diverged, bool) | ~np.isfinite(np.asarray(losses, float))
    best = np.argmin(rates) if lost.all() else np.argmin(np.where(lost, np.inf, losses))
    return int(best), bool(rates[best] in (rates.min(), rates.max()))
