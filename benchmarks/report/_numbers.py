"""Numbers of a result as intervals and text."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Interval(NamedTuple):
    """A number with the ends of its interval; NaN where there is none."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def side(self) -> int:
        """−1 if all of the interval is below 0, 1 if all is above, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        return self.text()

    def text(self, unit: str = "") -> str:
        """The number with its unit, then its interval."""
        if not self.known:
            return with_unit(significant(self.mean), unit)
        step = (self.high - self.low) / 20 or abs(self.mean) / 100 or 1.0
        decimals = min(max(0, -math.floor(math.log10(step))), 6)
        mean, low, high = (fixed(number, decimals) for number in self)
        return f"{with_unit(mean, unit)} [{low}, {high}]"


def interval(
    record: Any, scale: float = 1.0, low: float = -math.inf, high: float = math.inf
) -> Interval:
    """A record's interval, scaled, with the ends clipped to what is possible."""
    ends = scale * np.array([record.low, record.high])
    return Interval(scale * record.mean, *np.clip(ends, low, high).tolist())


def over_seeds(values: Any) -> Interval:
    """The mean of the finite values with its 95 % t interval."""
    mean, deviation, count = _moments(values)
    quantile = scipy.stats.t.ppf(0.975, max(count - 1, 1))
    half = float(quantile * deviation / math.sqrt(max(count, 1)))
    return Interval(mean, mean - half, mean + half)


def _moments(values: Any) -> tuple[float, float, int]:
    """Mean, sample standard deviation and number of the finite values."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else math.nan
    deviation = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    return mean, deviation, finite.size


def fixed(value: float, decimals: int) -> str:
    """A number with a given number of decimals and a true minus sign."""
    if not math.isfinite(value):
        return "–"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def percent(value: Any, decimals: int = 1) -> str:
    """A fraction in percent, without the sign."""
    return fixed(100 * float(value), decimals)


def with_unit(number: str, unit: str) -> str:
    """A number and its unit, if it has one, with a space that does not break."""
    return f"{number}\u00a0{unit}" if unit else number


def significant(value: float, digits: int = 3, sign: bool = False) -> str:
    """A number in a few digits, with a true minus sign."""
    if not math.isfinite(value) or abs(value) < 1e-300:
        return "0" if math.isfinite(value) else "–"
    magnitude = math.floor(math.log10(abs(value)))
    plus = "+" if sign and value > 0 else ""
    if not -5 < magnitude < 5:
        mantissa = significant(value / 10.0**magnitude, digits)
        return f"{plus}{mantissa}·{power(magnitude)}"
    return plus + fixed(value, max(digits - 1 - magnitude, 0))


def with_spread(values: Any) -> str:
    """Mean and sample standard deviation of the finite values."""
    mean, deviation, _ = _moments(values)
    if not math.isfinite(deviation) or abs(mean) < 1e-300:
        return significant(mean)
    smallest = max(min(abs(mean) / 100, deviation / 10 or math.inf), abs(mean) * 1e-4)
    decimals = max(0, -math.floor(math.log10(smallest)))
    if decimals > 6:
        return f"{significant(mean)} ± {significant(deviation, 2)}"
    return f"{fixed(mean, decimals)} ± {fixed(deviation, decimals)}"


def power(exponent: int) -> str:
    """A power of ten, which a float may be too small to hold."""
    return "10" + str(exponent).translate(_RAISED)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in a sentence; of more than `most` the first ones and a count."""
    names = list(names)
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
