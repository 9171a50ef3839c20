"""Reading numbers out of a result, where null stands for a number that is not finite,
and writing them for people.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

_TINY = 1e-300  # what is less is zero
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def array(values: Any) -> Float[np.ndarray, "..."]:
    """Nested lists of numbers as float64, null as nan.

    Example:
        >>> array([[1, None]])
        array([[ 1., nan]])
    """
    return np.asarray(values, dtype=float)


def schedules(result: dict[str, Any]) -> list[str]:
    """The schedules of a result, in the order of their first appearance."""
    found = (name for method in result["methods"].values() for name in method)
    return list(dict.fromkeys(found))


def entries(result: dict[str, Any], schedule: str) -> Iterator[tuple[str, dict]]:
    """Each method that was run under a schedule, with its numbers."""
    for name, method in result["methods"].items():
        if schedule in method:
            yield name, method[schedule]


def ranking(result: dict[str, Any], schedule: str) -> list[str]:
    """Methods by mean validation loss; one that diverged on any seed goes last."""
    losses = {
        name: array(entry["validation_loss"]).mean()
        for name, entry in entries(result, schedule)
    }
    return sorted(losses, key=lambda name: np.nan_to_num(losses[name], nan=np.inf))


def best_baseline(result: dict[str, Any], schedule: str) -> str | None:
    """The baseline with the lowest mean validation loss, frozen laws left aside."""
    names = ranking(result, schedule)
    return next((name for name in names if not name.startswith("rllc")), None)


def significant(value: float, digits: int = 3) -> str:
    """A number in a few digits, with a true minus sign.

    Example:
        >>> significant(0.0012345), significant(-1234.5), significant(float("nan"))
        ('0.00123', '−1234', '–')
    """
    if not math.isfinite(value):
        return "–"
    if abs(value) < _TINY:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 < magnitude < 5:
        mantissa = significant(value / 10.0**magnitude, digits)
        return f"{mantissa}·10{str(magnitude).translate(_RAISED)}"
    decimals = max(digits - 1 - magnitude, 0)
    return f"{value:.{decimals}f}".replace("-", "−")


def with_spread(values: Any) -> str:
    """Mean and sample standard deviation of the finite values.

    Example:
        >>> with_spread([0.0447, 0.0529]), with_spread([2e-4, 3e-4]), with_spread([1.0])
        ('0.0488 ± 0.0058', '(2.50 ± 0.71)·10⁻⁴', '1.00')
    """
    mean, deviation = mean_and_deviation(values)
    if not math.isfinite(deviation) or abs(mean) < _TINY:
        return significant(mean)
    exponent = math.floor(math.log10(abs(mean)))
    scaled = not -3 <= exponent < 5
    unit = 10.0**exponent if scaled else 1.0
    smallest = min(abs(mean) / 100, deviation / 10 or math.inf) / unit
    decimals = max(0, -math.floor(math.log10(max(smallest, abs(mean) / unit * 1e-4))))
    numbers = f"{mean / unit:.{decimals}f} ± {deviation / unit:.{decimals}f}"
    numbers = numbers.replace("-", "−")
    return f"({numbers})·10{str(exponent).translate(_RAISED)}" if scaled else numbers


def with_interval(number: dict[str, Any]) -> str:
    """A mean with the ends of its interval.

    Example:
        >>> with_interval({"mean": 0.0123, "low": -0.002, "high": 0.0266})
        '0.012 [−0.002, 0.027]'
        >>> with_interval({"mean": 0.5, "low": None, "high": None})
        '0.500'
    """
    if number["mean"] is None:
        return "–"
    texts = [
        "" if number[key] is None else f"{number[key]:.3f}".replace("-", "−")
        for key in ("mean", "low", "high")
    ]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if texts[1] else texts[0]


def power_of_ten(value: float, _=None) -> str:
    """A tick on a logarithmic axis.

    Example:
        >>> power_of_ten(0.001), power_of_ten(1.0), power_of_ten(20.0)
        ('10⁻³', '1', '20')
    """
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-9 or abs(exponent) < 1.5:
        return f"{value:g}"
    return power(round(exponent))


def power(exponent: int) -> str:
    """A power of ten that a float may be too small to hold.

    Example:
        >>> power(1521)
        '10¹⁵²¹'
    """
    return "10" + str(exponent).translate(_RAISED)


def mean_and_deviation(values: Any) -> tuple[float, float]:
    """Mean and sample standard deviation of the finite values; nan where there is none.

    Example:
        >>> mean_and_deviation([1.0, 3.0, None])
        (2.0, 1.4142135623730951)
    """
    finite = array(values)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else math.nan
    return mean, float(finite.std(ddof=1)) if finite.size > 1 else math.nan
