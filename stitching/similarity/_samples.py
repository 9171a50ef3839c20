"""Activations as samples × features, checked at the door."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._finite import finite
from stitching._moments import Moments, moments, real

Activation = Float[ArrayLike, "n p"]
# What the linear indices see, once it is checked: a pair, or its moments.
Seen = tuple[Array, Array] | Moments


def positions(activation: Float[ArrayLike, "*samples p"]) -> Float[Array, "n p"]:
    """An activation whose every position is a sample and every channel a feature.

    The view in which a stitching layer (a map of channels) works. Neighbouring
    positions are not independent, so fewer samples are there than it seems.

    Args:
        activation: (images, ..., channels), for instance (images, height, width,
            channels) or (sequences, tokens, channels).

    Returns:
        Shape (images · positions, channels).

    Raises:
        ValueError: if the activation has fewer than two axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> similarity.positions(jnp.ones((10, 4, 4, 16))).shape
        (160, 16)
    """
    activation = with_two_axes(activation)
    return activation.reshape(-1, activation.shape[-1])


def flattened(activation: Float[ArrayLike, "n *features"]) -> Float[Array, "n p"]:
    """An activation whose every image is a sample and every entry a feature.

    Tells apart *where* something is seen, as a dense layer behind it would; needs many
    images.

    Args:
        activation: (images, ..., channels).

    Returns:
        Shape (images, positions · channels).

    Raises:
        ValueError: if the activation has fewer than two axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> similarity.flattened(jnp.ones((10, 4, 4, 16))).shape
        (10, 256)
    """
    activation = with_two_axes(activation)
    return activation.reshape(activation.shape[0], -1)


def with_two_axes(activation: ArrayLike) -> Array:
    """An array of at least two axes.

    Raises:
        ValueError: if it has fewer.
    """
    activation = jnp.asarray(activation)
    if activation.ndim < 2:
        raise ValueError(
            f"activation: expected shape (images, ..., channels), got "
            f"{activation.shape}; one image is activation[None]"
        )
    return activation


def pair(x: Any, y: Any, least: int = 2) -> tuple[Array, Array]:
    """Two activations of the same samples, in one dtype of at least float32.

    Raises:
        TypeError: if one is complex, not numeric, or moments.
        ValueError: if a shape does not fit, there are fewer than `least` samples, or an
            array that is not traced holds NaN or infinity.
    """
    x, y = matrix("x", x), matrix("y", y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"x and y: expected the same samples in the same order, got {x.shape[0]} "
            f"and {y.shape[0]}"
        )
    if x.shape[0] < least:
        raise ValueError(
            f"x and y: expected at least {least} samples, got {x.shape[0]}"
        )
    for name, is_finite in zip("xy", finite(x, y), strict=True):
        if not is_finite:
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    dtype = jnp.promote_types(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype)


def matrix(name: str, array: Any) -> Array:
    """One activation as a matrix.

    Raises:
        TypeError: if it is complex, not numeric, or moments.
        ValueError: if the shape does not fit.
    """
    if isinstance(array, Moments):
        raise TypeError(
            f"{name}: expected an activation (samples, features), got Moments; "
            f"where an index can be computed from them, they come alone, as x"
        )
    if array is None:
        raise TypeError(
            f"{name}: expected an activation of shape (samples, features), got None; "
            f"only Moments, which know the pair, come alone"
        )
    array = real(name, array)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name}: expected shape (samples, features), got {array.shape}; make maps "
            f"or tokens samples with similarity.positions({name}) or features with "
            f"similarity.flattened({name})"
        )
    return array


def pair_or_moments(x: Any, y: Any, least: int = 2) -> Seen:
    """A pair, given as two activations or by its moments alone.

    Raises:
        TypeError, ValueError: as `pair` does, and for moments of fewer than 2 samples,
            of one activation only, or that are not finite.
    """
    if not isinstance(x, Moments):
        return pair(x, y, least)
    if y is not None:
        raise TypeError(f"y: expected None beside Moments, got {type(y).__name__}")
    if 0 in x.xy.shape:
        raise ValueError(
            "x: expected moments of a pair, got those of one activation; compute "
            "stitching.moments(x, y)"
        )
    if not isinstance(x.count, Tracer) and not float(x.count) >= 2:
        raise ValueError(f"x: expected at least 2 samples, got {float(x.count):g}")
    if not all(finite(*x)):
        raise ValueError("x: expected finite moments, got NaN or infinity")
    return x


def moments_of(seen: Seen) -> Moments:
    """The moments of what is seen."""
    return seen if isinstance(seen, Moments) else moments(*seen)


def defined(index: str, value: Array, why: str) -> Array:
    """An index that exists.

    Raises:
        ValueError: if it is NaN and not traced, where NaN can only say as much.
    """
    if not isinstance(value, Tracer) and np.isnan(value).any():
        raise ValueError(f"{index} is not defined: {why}")
    return value


CONSTANT = "no feature of x, or none of y, varies over the samples"
