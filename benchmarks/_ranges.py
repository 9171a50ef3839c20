"""Options that are out of range."""

import math
from typing import Any

LARGEST = 2**31 - 1  # counters and seeds have 32 bits on a device


def check_counts(options: Any, **least: int) -> None:
    """Raise if a count is too small, or larger than a counter can hold."""
    for name, minimum in least.items():
        value = getattr(options, name)
        counts = value if isinstance(value, tuple) else (value,)
        if not counts:
            raise ValueError(f"{name}: expected one or more integers, got none")
        if min(counts) < minimum:
            raise ValueError(f"{name}: expected at least {minimum}, got {value}")
        if max(counts) > LARGEST:
            raise ValueError(f"{name}: expected at most {LARGEST}, got {value}")


def check_positive(options: Any, *names: str) -> None:
    """Raise if a number is not positive and finite."""
    for name in names:
        value = getattr(options, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive, finite number, got {value}")
