"""Refusing options that are out of range."""

import math
from typing import Any

LARGEST = 2**31 - 1  # counters and seeds have 32 bits on a device


def check_counts(options: Any, **least: int) -> None:
    """Refuses counts that are too small, or larger than a counter can hold.

    Args:
        options: what has the counts as attributes, each an integer or a tuple of them.
        **least: the smallest allowed, by name.

    Raises:
        ValueError: naming the option, what came and what was expected.
    """
    for name, minimum in least.items():
        value = getattr(options, name)
        counts = value if isinstance(value, tuple) else (value,)
        if not counts:
            raise ValueError(f"{name} is (): expected one or more integers.")
        if min(counts) < minimum:
            raise ValueError(f"{name} is {value}: expected at least {minimum}.")
        if max(counts) > LARGEST:
            raise ValueError(f"{name} is {value}: expected at most {LARGEST}.")


def check_positive(options: Any, *names: str) -> None:
    """Refuses numbers that are not positive and finite."""
    for name in names:
        value = getattr(options, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}: expected a positive, finite number.")
