"""Validation of arguments: counts, numbers, functions, trees of arrays and keys.

Each raises a TypeError for what is of the wrong kind, or a ValueError for what is out
of range, that starts with the name of the argument.
"""

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32
from jaxtyping import Key as TypedKey

Key = TypedKey[Array, ""] | UInt32[Array, "2"]

_IMPLEMENTATION = "threefry2x32"
# Of raw keys, which do not say what they are keys of.
_OF_SHAPE = {(2,): _IMPLEMENTATION, (4,): "rbg"}
_ONLY_ARRAYS = (
    "take only the arrays, as eqx.partition(model, eqx.is_array) or nnx.split(model) "
    "do, and put the rest back in apply"
)


def check_count(name: str, value: Any, least: int) -> int:
    """Return an integer that is at least so large."""
    number: Any = str(value) if isinstance(value, bool) else value
    try:
        count = operator.index(number)
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from error
    if count < least:
        raise ValueError(f"{name}: expected at least {least}, got {count}")
    return count


def check_number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float = -math.inf,
) -> float:
    """Return a finite number in [least, most] that is larger than `above`."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a number, got {value!r}") from error
    if not (math.isfinite(number) and least <= number <= most and number > above):
        wanted = "" if least == -math.inf else f" of at least {least:g}"
        wanted = wanted if above == -math.inf else f" above {above:g}"
        wanted = wanted if most == math.inf else f" in [{least:g}, {most:g}]"
        raise ValueError(f"{name}: expected a finite number{wanted}, got {number}")
    return number


def check_function(name: str, value: Any, called: str) -> None:
    """Check that a value can be called; `called` says how, for the error."""
    if not callable(value):
        raise TypeError(f"{name}: expected a function {called}, got {value!r}")


def check_arguments(name: str, value: Any) -> tuple[Any, ...]:
    """Return further arguments of a function, given as a tuple or a list."""
    if not isinstance(value, tuple | list):
        raise TypeError(
            f"{name}: expected a tuple of arguments, got {type(value).__name__}; write "
            "(x,) for one"
        )
    return tuple(value)


def check_mapping(name: str, value: Any, what: str) -> Mapping[str, Any]:
    """Return a mapping; `what` says from what to what, for the error."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict {what}, got {value!r}")
    return value


def check_bijections(symmetry: Any, permutation: Any, name: str) -> dict[str, Any]:
    """Return a permutation of a symmetry's groups as 32-bit index arrays."""
    symmetry.check_permutation(permutation, name)
    return {group: jnp.asarray(i, jnp.int32) for group, i in permutation.items()}


def check_paths(what: str, found: Sequence[tuple], expected: Sequence[tuple]) -> None:
    """Check that the leaves of two trees have the same paths, in the same order.

    Each leaf is a tuple that starts with its path. `what` says for the error what does
    not match, as "b does not match a".
    """
    paths, others = [leaf[0] for leaf in found], [leaf[0] for leaf in expected]
    for where, wanted in itertools.zip_longest(paths, others):
        missing = wanted is not None and wanted not in paths
        extra = where is not None and where not in others
        if missing and not extra:
            raise ValueError(f"{what}: it has no leaf {wanted!r}")
        if extra and not missing:
            raise ValueError(f"{what}: it has one more leaf {where!r}")
        if where != wanted:
            raise ValueError(f"{what}: expected the leaf {wanted!r}, got {where!r}")


def path_name(path: Sequence[Any]) -> str:
    """Return a leaf's path as text: keys joined by slashes."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def named_leaves(name: str, tree: Any, shapes: bool = False) -> list[tuple[str, Any]]:
    """Return path and value of each leaf of a tree of arrays and numbers.

    With `shapes`, the shape of an array may take its place.
    """
    leaves = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        dtype = getattr(leaf, "dtype", None) if hasattr(leaf, "shape") else None
        found, hint = "", _ONLY_ARRAYS
        if dtype is None and not isinstance(leaf, bool | int | float | complex):
            found = type(leaf).__name__
        elif getattr(dtype, "kind", "f") in "OSUMm":
            found = f"an array of {dtype}"
        elif isinstance(leaf, jax.ShapeDtypeStruct) and not shapes:
            found, hint = "ShapeDtypeStruct", "only infer_symmetry takes shapes"
        if found:
            raise TypeError(
                f"{name}: expected arrays, got {found} at {path_name(path)!r}; {hint}"
            )
        leaves.append((path_name(path), leaf))
    return leaves


def check_any_key(key: Any) -> TypedKey[Array, ""]:
    """Return a single PRNG key, of any implementation, as a typed key."""
    dtype = getattr(key, "dtype", None)
    if dtype is None:
        raise TypeError(f"key: expected a PRNG key as jax.random.key(0), got {key!r}")
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if dtype != jnp.uint32 or key.shape not in _OF_SHAPE:
            raise TypeError(
                "key: expected a PRNG key as jax.random.key(0), got an array of "
                f"{dtype} of shape {key.shape}"
            )
        return jax.random.wrap_key_data(key, impl=_OF_SHAPE[key.shape])
    if key.shape != ():
        raise ValueError(f"key: expected one key, got keys of shape {key.shape}")
    return key


def check_key(key: Any) -> TypedKey[Array, ""]:
    """Return a single typed PRNG key whose draws do not depend on the batch."""
    key = check_any_key(key)
    implementation = str(jax.random.key_impl(key))
    if implementation != _IMPLEMENTATION:
        raise TypeError(
            f"key: expected one of {_IMPLEMENTATION}, got {implementation}, whose "
            "draws depend on how many samples are drawn together; make it by "
            f"jax.random.key(0, impl={_IMPLEMENTATION!r})"
        )
    return key
