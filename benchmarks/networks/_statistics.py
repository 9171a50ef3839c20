"""Means over pairs of networks, with intervals that know that pairs share networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Pair = tuple[int, int]


def over_networks(pairs: Sequence[Pair], values: Sequence[float]) -> dict[str, Any]:
    r"""The mean over pairs and its 95 % interval over networks.

    Pairs that share a network are not independent, so the spread is that of the means
    :math:`\bar x_{(k)}` over the pairs without network k (the jackknife):

    .. math::

      s^2 = \frac{n - 1}{n} \sum_k \Bigl(\bar x_{(k)} - \tfrac1n \sum_j
        \bar x_{(j)}\Bigr)^2, \qquad \bar x \pm t_{0.975,\,n-1}\, s

    Args:
      pairs: The two networks of each value.
      values: A number for each pair.

    Returns:
      "mean", "low", "high"; None where there is no number.

    Example:
      >>> found = over_networks([(0, 1), (0, 2), (1, 2)], [1.0, 2.0, 3.0])
      >>> found["mean"], found["low"] < 1.0
      (2.0, True)
    """
    numbers = np.asarray(values, float)
    networks = sorted({network for pair in pairs for network in pair})
    without = [numbers[[network not in pair for pair in pairs]] for network in networks]
    if not np.isfinite(numbers).all() or not all(len(rest) for rest in without):
        mean = float(np.mean(numbers)) if np.isfinite(numbers).all() else None
        return {"mean": mean, "low": None, "high": None}
    means = np.array([rest.mean() for rest in without])
    count = len(networks)
    spread = np.sqrt((count - 1) / count * np.sum((means - means.mean()) ** 2))
    half = stats.t.ppf(0.975, count - 1) * spread
    mean = float(numbers.mean())
    return {"mean": mean, "low": mean - float(half), "high": mean + float(half)}


def interval_of(
    pairs: Sequence[Pair], found: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """`over_networks` of each metric, the values of the pairs beside it."""
    return {
        metric: {"pairs": list(map(float, values)), **over_networks(pairs, values)}
        for metric, values in found.items()
    }
