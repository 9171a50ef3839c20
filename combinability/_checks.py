"""Single arguments that are refused at the door, each by its name."""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def check_count(name: str, value: Any, least: int) -> int:
    """An integer that is large enough.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is too small.
    """
    try:
        count = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from error
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if count < least:
        raise ValueError(f"{name}: expected at least {least}, got {count}")
    return count


def check_number(name: str, value: Any, above: float = -math.inf) -> float:
    """A finite number that is large enough.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not finite, or not above what it must be.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a number, got {value!r}") from error
    if not math.isfinite(number) or number <= above:
        more = "" if above == -math.inf else f" above {above:g}"
        raise ValueError(f"{name}: expected a finite number{more}, got {number}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """A number in [0, 1].

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is outside.
    """
    number = check_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {number}")
    return number


def check_function(name: str, value: Any, called: str) -> None:
    """Refuses what cannot be called.

    Args:
        name: what the argument is called.
        value: what came.
        called: how it would be called, for the error.

    Raises:
        TypeError: if it is not a function.
    """
    if not callable(value):
        raise TypeError(f"{name}: expected a function {called}, got {value!r}")


def check_bijections(symmetry: Any, permutation: Any, name: str) -> dict[str, Any]:
    """Return a permutation as 32-bit index arrays.

    Raises:
        TypeError: if it is no mapping.
        ValueError: if a group is unknown, an index array has the wrong shape or dtype,
            or does not name each unit once.
    """
    symmetry.check_permutation(permutation, name)
    return {group: jnp.asarray(i, jnp.int32) for group, i in permutation.items()}


def check_paths(what: str, found: Sequence[tuple], expected: Sequence[tuple]) -> None:
    """Check that the leaves of two trees have the same paths, in the same order.

    Args:
        what: what does not match, for the error, as "b does not match a".
        found: the leaves of one tree, each a tuple that starts with its path.
        expected: those of the other.

    Raises:
        ValueError: with the first difference.
    """
    paths, others = [leaf[0] for leaf in found], [leaf[0] for leaf in expected]
    for where, wanted in itertools.zip_longest(paths, others):
        lacking = wanted is not None and wanted not in paths
        extra = where is not None and where not in others
        if lacking and not extra:
            raise ValueError(f"{what}: it has no leaf {wanted!r}")
        if extra and not lacking:
            raise ValueError(f"{what}: it has one more leaf {where!r}")
        if where != wanted:
            raise ValueError(f"{what}: expected the leaf {wanted!r}, got {where!r}")


def path_name(path: Sequence[Any]) -> str:
    """Return a leaf's path as text: keys joined by slashes."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def named_leaves(name: str, tree: Any) -> list[tuple[str, Any]]:
    """Return path and value of each leaf of a tree.

    Raises:
        TypeError: if a leaf is no array or number; names it.
    """
    leaves = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        number = isinstance(leaf, bool | int | float | complex)
        if not number and not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(
                f"{name}: expected arrays, got {type(leaf).__name__} at "
                f"{path_name(path)!r}; take only the arrays, as eqx.partition(model, "
                "eqx.is_array) or nnx.split(model) do, and put the rest back in apply"
            )
        leaves.append((path_name(path), leaf))
    return leaves
