"""Tuning by the same trials for every method, and paired comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.stats import qmc

from benchmarks.baselines import SCHEDULES, Method
from benchmarks.rllc._laws import settled_law

# All methods try the same points of the unit cube.
_SEARCH_SEED = 0


def sample(method: Method, trials: int, widen: float = 1.0) -> list[dict[str, float]]:
    """Draw the hyper-parameters of every trial from a scrambled Halton sequence."""
    ranges = method.widened(widen)
    sampler = qmc.Halton(len(ranges), scramble=True, rng=_SEARCH_SEED)
    return [
        {name: ranges[name].at(float(u)) for name, u in zip(ranges, point, strict=True)}
        for point in sampler.random(trials)
    ]


def stacked(
    trials: Sequence[Mapping[str, float]],
    schedules: Sequence[str],
    laws: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Return what `Maker` is given in each run, as arrays.

    Args:
        trials: the hyper-parameters of each run.
        schedules: the schedule of each run; it is traced, so that all runs of a method
            share one compilation.
        laws: by schedule, if the method freezes a learned law.
    """
    found = {n: np.array([t[n] for t in trials], np.float32) for n in trials[0]}
    found["schedule"] = np.array([SCHEDULES.index(name) for name in schedules])
    if laws:
        found["law"] = np.array([laws[name] for name in schedules], np.float32)
    return found


def tuned(
    method: Method,
    trials: Sequence[dict[str, float]],
    scores: Mapping[str, Any],
    diverged: Any,
    probes: Mapping[str, Any],
    *,
    metric: str,
    widen: float = 1.0,
) -> dict[str, Any]:
    """Return what trials gave, the best by a metric of the scores selected."""
    best, at_border = select(method, trials, scores[metric], diverged)
    return {
        "space": describe(method, widen),
        "trials": [
            {
                "hyper": trial,
                **{name: values[i] for name, values in scores.items()},
                "diverged": diverged[i],
            }
            for i, trial in enumerate(trials)
        ],
        "selected": trials[best],
        "at_border": at_border,
        "learned_law": settled_law({name: x[best] for name, x in probes.items()}),
    }


def describe(method: Method, widen: float = 1.0) -> dict[str, Any]:
    """Return the space as results record it."""
    ranges = method.widened(widen).items()
    return {
        **{name: [one.low, one.high, one.scale] for name, one in ranges},
        **method.fixed,
    }


def select(
    method: Method, trials: Sequence[dict[str, float]], losses: Any, diverged: Any
) -> tuple[int, bool]:
    """Select the trial with the lowest loss; diverged trials are not eligible."""
    rates = np.array([trial[method.rate] for trial in trials])
    lost = np.asarray(diverged, bool) | ~np.isfinite(np.asarray(losses, float))
    best = np.argmin(rates) if lost.all() else np.argmin(np.where(lost, np.inf, losses))
    return int(best), bool(rates[best] in (rates.min(), rates.max()))


def paired(ours: Any, theirs: Any) -> dict[str, Any]:
    r"""Compare two methods over paired seeds; lower values are better.

    The interval of the mean difference d̄ of n pairs is
    :math:`\bar d \pm t_{0.975,\,n-1}\, s_d / \sqrt{n}`.

    Values are of one seed each, None or NaN where there is none. Returns the fields of
    `Comparison` from "mean_difference" on.
    """
    difference = np.array(ours, float) - np.array(theirs, float)
    difference = difference[np.isfinite(difference)]
    count = len(difference)
    mean = np.mean(difference) if count else np.nan
    half = np.nan
    if count > 1:
        deviation = np.std(difference, ddof=1)
        half = stats.t.ppf(0.975, count - 1) * deviation / np.sqrt(count)
    return {
        "mean_difference": float(mean),
        "low": float(mean - half),
        "high": float(mean + half),
        "better": int(np.sum(difference < 0)),
        "pairs": count,
    }


def steps_to_target(
    steps: Sequence[int], curves: Any, target: float | None
) -> list[int | None]:
    """Return, for each curve, the first step at which it is at most the target."""
    if target is None:
        return [None] * len(curves)
    reached = np.array(curves, float) <= target
    return [int(steps[int(np.argmax(row))]) if row.any() else None for row in reached]
