"""Means with intervals, and claims that an interval supports or contradicts."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy import stats

from benchmarks.runs import Number, Record

Pair = tuple[int, int]


class Interval(Record):
    """A mean and its 95 % interval; NaN where there is none."""

    mean: Number  # the mean
    low: Number  # the lower end
    high: Number  # the upper end


class PairInterval(Interval):
    """A mean over pairs of networks with a 95 % interval over networks (jackknife)."""

    pairs: Float64[np.ndarray, " pair"]  # the value of each pair


class Claim(Interval):
    """A statement about a number, and whether its interval supports it."""

    claim: str  # the statement
    measure: str  # what the number is
    bound: float  # what it is compared with
    # "at least" or "at most" the bound, if the claim is true.
    side: Literal["at least", "at most"]
    # "holds" or "does not hold" if the whole interval says so, "undecided" if it
    # does not; "moot" where the claim does not apply.
    verdict: Literal["holds", "does not hold", "undecided", "moot"]


def over_networks(pairs: Sequence[Pair], values: Sequence[float]) -> dict[str, Any]:
    r"""Return the mean over pairs and its 95 % interval over networks.

    Pairs that share a network are not independent, so the spread is that of the means
    :math:`\bar x_{(k)}` over the pairs without network k (the jackknife):

    .. math::

      s^2 = \frac{n - 1}{n} \sum_k \Bigl(\bar x_{(k)} - \tfrac1n \sum_j
        \bar x_{(j)}\Bigr)^2, \qquad \bar x \pm t_{0.975,\,n-1}\, s

    Args:
      pairs: The two networks of each value.
      values: A number for each pair.

    Returns:
      "mean", "low" and "high"; None where there is no number.

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
    pairs: Sequence[Pair], found: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return a `PairInterval` of each metric from the values of the pairs."""
    return {
        metric: {"pairs": np.asarray(values, float), **over_networks(pairs, values)}
        for metric, values in found.items()
    }


def judged(
    claim: str, measure: str, number: Mapping[str, Any], bound: float, side: str
) -> dict[str, Any]:
    """Return a `Claim` with the verdict that the interval of its number gives."""
    low, high = number["low"], number["high"]
    row = {"claim": claim, "measure": measure, "bound": bound, "side": side}
    row |= {name: number[name] for name in ("mean", "low", "high")}
    if low is None or high is None:
        return row | {"verdict": "undecided"}
    inside, outside = high <= bound, low > bound
    if side == "at least":
        inside, outside = low >= bound, high < bound
    verdict = "holds" if inside else "does not hold" if outside else "undecided"
    return row | {"verdict": verdict}
