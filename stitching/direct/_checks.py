"""Validation of the arguments of fits."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from stitching._moments import Moments, finite, real


def pair_moments(moments: Any) -> Moments:
    """The moments of a pair of activations, unchanged.

    Raises:
        TypeError: if they are not `Moments`.
        ValueError: if they are of one activation only, or, where not traced, of no
            sample or not finite.
    """
    if not isinstance(moments, Moments):
        raise TypeError(
            f"moments: expected stitching.Moments, got {type(moments).__name__}; "
            f"compute stitching.moments(x, y) of two activations"
        )
    if 0 in moments.xy.shape:
        raise ValueError(
            "moments: expected those of a pair, got those of one activation; compute "
            "stitching.moments(x, y)"
        )
    if any(isinstance(leaf, Tracer) for leaf in moments):
        return moments
    if not float(moments.count) >= 1:
        raise ValueError(
            f"moments: expected at least 1 sample, got {moments.count:g}; merge some in"
        )
    if not all(finite(*moments)):
        raise ValueError(
            "moments: expected finite numbers, got NaN or infinity; the activations "
            f"hold NaN or infinity, or their squares do not fit {moments.xx.dtype}: "
            "scale them first"
        )
    return moments


def nonnegative(name: str, value: Any, like: jax.Array, axes: int = 0) -> jax.Array:
    """Real numbers none of which is below zero, in the dtype of another array.

    Raises:
        TypeError: if they are not real.
        ValueError: if one is negative or not finite (traced ones are not checked), or
            the number of axes is another.
    """
    try:
        array = real(name, value).astype(like.dtype)
    except TypeError:
        raise TypeError(f"{name}: expected real numbers, got {value!r}") from None
    if array.ndim != axes:
        raise ValueError(
            f"{name}: expected {'one number' if axes == 0 else 'shape (k,)'}, got "
            f"shape {array.shape}"
        )
    if not isinstance(array, Tracer) and not (
        np.isfinite(array).all() and np.greater_equal(array, 0).all()
    ):
        raise ValueError(f"{name}: expected finite, at least 0, got {value}")
    return array


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises a ValueError unless the value is one of the allowed ones."""
    if value not in allowed:
        raise ValueError(
            f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}"
        )
