"""Programs that are kept from one call to the next, and what they are kept for."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def equal(one: Any, other: Any) -> bool:
    """Return whether two things are equal; those that cannot be compared are not.

    Modules are compared by their attributes, among which there may be arrays.
    """
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False


class Static:
    """A static argument of `jax.jit`, whose parts need not be hashable."""

    def __init__(self, *parts: Any):
        self.parts = parts
        self._hash = hash(repr(parts))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Static) and equal(self.parts, other.parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def compiled(function: Callable[..., Any], static: tuple[Any, ...], *arguments: Any):
    """Call a function of static and further arguments; equal calls compile once."""
    return function(*static, *arguments)
