"""Paired comparisons, targets, and numbers as JSON has them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

Values = Sequence[float | None] | np.ndarray


def paired(ours: Values, theirs: Values) -> dict[str, Any]:
    r"""Compares two methods over paired seeds; lower values are better.

    The interval of the mean difference d̄ of n pairs is
    :math:`\bar d \pm t_{0.975,\,n-1}\, s_d / \sqrt{n}`.

    Args:
      ours: A value for each seed; None or NaN where there is none.
      theirs: The same for the other method, on the same seeds.

    Returns:
      "mean_difference" (ours minus theirs), "low" and "high" of its 95 % interval,
      "better" (in how many pairs ours is lower) and "pairs" (how many have both
      values). What cannot be had is None.

    Example:
      >>> paired([1.0, 2.0, 3.0], [2.0, 3.0, 4.5])["better"]
      3
    """
    difference = np.array(ours, float) - np.array(theirs, float)
    difference = difference[np.isfinite(difference)]
    count = len(difference)
    mean = half = np.nan
    if count:
        mean = np.mean(difference)
    if count > 1:
        deviation = np.std(difference, ddof=1)
        half = stats.t.ppf(0.975, count - 1) * deviation / np.sqrt(count)
    return plain(
        {
            "mean_difference": mean,
            "low": mean - half,
            "high": mean + half,
            "better": int(np.sum(difference < 0)),
            "pairs": count,
        }
    )


def steps_to_target(
    steps: Sequence[int], curves: Sequence[Sequence[float | None]], target: float | None
) -> list[int | None]:
    """Returns, for each curve, the first step at which it is at most the target."""
    if target is None:
        return [None] * len(curves)
    reached = np.array(curves, float) <= target
    return [int(steps[int(np.argmax(row))]) if row.any() else None for row in reached]


def plain(value: Any) -> Any:
    """Returns a tree of what JSON can hold; numbers that are not finite become None.

    Example:
      >>> plain({"loss": np.array([0.5, np.nan]), "diverged": np.array([False, True])})
      {'loss': [0.5, None], 'diverged': [False, True]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
