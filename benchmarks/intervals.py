"""Means with intervals, and claims that an interval supports or contradicts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy import stats

from benchmarks.runs import Number, Record

Pair = tuple[int, int]
_FEWEST = 3  # networks, and pairs of them, that an interval needs


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


def over_networks(
    pairs: Sequence[Pair],
    values: Any,
    statistic: Callable[[np.ndarray], Any] = np.mean,
) -> dict[str, Any]:
    r"""Return the mean over pairs and its 95 % interval over networks.

    Pairs that share a network are not independent, so the spread is that of the means
    :math:`\bar x_{(k)}` over the pairs without network k (the jackknife):

    .. math::

      s^2 = \frac{n - 1}{n} \sum_k \Bigl(\bar x_{(k)} - \tfrac1n \sum_j
        \bar x_{(j)}\Bigr)^2, \qquad \bar x \pm t_{0.975,\,n-1}\, s

    With fewer than three networks or three pairs there is no interval: two pairs that
    share no network have four networks, and yet only two independent values.

    Args:
        pairs: the two networks of each value.
        values: a number for each pair; or an array, for another statistic.
        statistic: what is in the place of the mean: a number, from the values.

    Returns:
        "mean", "low" and "high"; None where there is no number, and for the ends of too
        few networks or pairs.

    Example:
        >>> found = over_networks([(0, 1), (0, 2), (1, 2)], [1.0, 2.0, 3.0])
        >>> found["mean"], found["low"] < 1.0
        (2.0, True)
    """
    numbers = np.asarray(values, float)
    networks = sorted({network for pair in pairs for network in pair})
    rests = [numbers[[network not in pair for pair in pairs]] for network in networks]
    mean = float(statistic(numbers))
    means = np.array([statistic(rest) if len(rest) else np.nan for rest in rests])
    few = min(len(networks), len(pairs)) < _FEWEST
    if few or not np.isfinite([mean, *means]).all():
        mean = mean if np.isfinite(mean) else None
        return {"mean": mean, "low": None, "high": None}
    count = len(networks)
    spread = np.sqrt((count - 1) / count * np.sum((means - means.mean()) ** 2))
    half = float(stats.t.ppf(0.975, count - 1) * spread)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def pair_interval(pairs: Sequence[Pair], values: Any) -> dict[str, Any]:
    """Return a `PairInterval` from the values of the pairs."""
    return {"pairs": np.asarray(values, float), **over_networks(pairs, values)}


def interval_of(
    pairs: Sequence[Pair], found: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return a `PairInterval` of each metric."""
    return {metric: pair_interval(pairs, values) for metric, values in found.items()}


def rank_correlation(x: Any, y: Any) -> float:
    """Return Spearman's correlation where both are finite; NaN if one is constant."""
    x, y = (np.asarray(values, float).ravel() for values in (x, y))
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    found: Any = stats.spearmanr(x, y)
    return float(found.statistic)


def mean_rank_correlation(both: Iterable[Any]) -> float:
    """Return the mean of those rank correlations of (x, y) that are numbers, or NaN."""
    found = [value for x, y in both if np.isfinite(value := rank_correlation(x, y))]
    return float(np.mean(found)) if found else float("nan")


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
