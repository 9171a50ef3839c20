"""Programs that are kept from one call to the next, where that is safe."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn


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


def is_fixed(value: Any) -> bool:
    """Return whether this computes the same for equal arguments, as far as is known.

    So do the functions of this library and the methods of Linen modules, which are
    frozen. Any other function may read something that changes between calls.
    """
    if isinstance(value, functools.partial):
        return all(map(is_fixed, (value.func, *value.args, *value.keywords.values())))
    if not callable(value):
        return value is None or isinstance(value, bool | int | float | str)
    module = getattr(value, "__module__", None) or ""
    return module.startswith("stitching.") or isinstance(
        getattr(value, "__self__", None), nn.Module
    )


def compiled(
    function: Callable[..., Any], *static: Any, kept: bool
) -> Callable[..., Any]:
    """Return a function of further arguments, compiled.

    Args:
        function: of the static arguments and further ones.
        *static: what it is compiled for, hashable.
        kept: whether calls with equal static arguments share their compilations, or
            each function that this returns has its own.
    """
    if kept:
        return functools.partial(_kept, function, static)
    return jax.jit(functools.partial(function, *static))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _kept(function: Callable[..., Any], static: tuple[Any, ...], *arguments: Any):
    return function(*static, *arguments)
