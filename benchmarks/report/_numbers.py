"""Numbers of a result as arrays, intervals and text."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def array(values: Any) -> Float[np.ndarray, "..."]:
    """Nested lists of numbers as float64, None as NaN."""
    return np.asarray(values, dtype=float)


class Interval(NamedTuple):
    """A number with the ends of its interval; NaN where there is none.

    Example:
        >>> str(Interval(2.0, 1.5, 2.5)), str(Interval(2.0, math.nan, math.nan))
        ('2.00 [1.50, 2.50]', '2.00')
    """

    mean: float
    low: float
    high: float

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
    """A record's mean, low and high, scaled, with the ends clipped to what is possible.

    Example:
        >>> interval(Interval(0.99, 0.9, 1.08), 100, high=100)
        Interval(mean=99.0, low=90.0, high=100.0)
    """
    found = array([record.mean, record.low, record.high]) * scale
    return Interval(float(found[0]), *np.clip(found[1:], low, high).tolist())


def over_seeds(values: Any) -> Interval:
    """The mean of the finite values with its 95 % t interval.

    Example:
        >>> str(over_seeds([1.0, 2.0, 3.0, None]))
        '2.0 [−0.5, 4.5]'
    """
    finite = array(values)
    finite = finite[np.isfinite(finite)]
    mean, deviation = mean_and_deviation(finite)
    quantile = scipy.stats.t.ppf(0.975, max(finite.size - 1, 1))
    half = float(quantile * deviation / math.sqrt(max(finite.size, 1)))
    return Interval(mean, mean - half, mean + half)


def mean_and_deviation(values: Any) -> tuple[float, float]:
    """Mean and sample standard deviation of the finite values; NaN where there is none.

    Example:
        >>> mean_and_deviation([1.0, 3.0, None])
        (2.0, 1.4142135623730951)
    """
    finite = array(values)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else math.nan
    return mean, float(finite.std(ddof=1)) if finite.size > 1 else math.nan


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals and a true minus sign."""
    if not math.isfinite(value):
        return "–"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def with_unit(number: str, unit: str) -> str:
    """A number and its unit, if it has one, with a space that does not break."""
    return f"{number}\u00a0{unit}" if unit else number


def significant(value: float, digits: int = 3, sign: bool = False) -> str:
    """A number in a few digits, with a true minus sign.

    Example:
        >>> significant(0.0012345), significant(-1234.5), significant(float("nan"))
        ('0.00123', '−1234', '–')
    """
    if not math.isfinite(value) or abs(value) < 1e-300:
        return "0" if math.isfinite(value) else "–"
    magnitude = math.floor(math.log10(abs(value)))
    plus = "+" if sign and value > 0 else ""
    if not -5 < magnitude < 5:
        mantissa = significant(value / 10.0**magnitude, digits)
        return f"{plus}{mantissa}·{power(magnitude)}"
    return plus + fixed(value, max(digits - 1 - magnitude, 0))


def with_spread(values: Any) -> str:
    """Mean and sample standard deviation of the finite values.

    Example:
        >>> with_spread([0.0447, 0.0529]), with_spread([2e-4, 3e-4]), with_spread([1.0])
        ('0.0488 ± 0.0058', '(2.50 ± 0.71)·10⁻⁴', '1.00')
    """
    mean, deviation = mean_and_deviation(values)
    if not math.isfinite(deviation) or abs(mean) < 1e-300:
        return significant(mean)
    exponent = math.floor(math.log10(abs(mean)))
    scaled = not -3 <= exponent < 5
    unit = 10.0**exponent if scaled else 1.0
    smallest = min(abs(mean) / 100, deviation / 10 or math.inf) / unit
    decimals = max(0, -math.floor(math.log10(max(smallest, abs(mean) / unit * 1e-4))))
    text = f"{fixed(mean / unit, decimals)} ± {fixed(deviation / unit, decimals)}"
    return f"({text})·{power(exponent)}" if scaled else text


def power(exponent: int) -> str:
    """A power of ten, which a float may be too small to hold."""
    return "10" + str(exponent).translate(_RAISED)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in a sentence; of more than `most` the first ones and how many there are.

    Example:
        >>> listed(["Adam", "Lion", "Muon"]), listed("abcdef", most=2)
        ('Adam, Lion and Muon', 'a, b and 4 more')
    """
    names = list(names)
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
