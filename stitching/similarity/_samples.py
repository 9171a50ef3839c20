"""Validation of activations as samples × features."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._moments import Moments, finite, moments, one_array, real, sample_weights

Activation = Float[ArrayLike, "n p"]
Weights = Float[ArrayLike, " n"] | None
# The input of linear indices, once it is checked: a pair, or its moments.
Seen = tuple[Array, Array] | Moments


def positions(activation: Float[ArrayLike, "*samples p"]) -> Float[Array, "n p"]:
    """Return an activation with every position as a sample and channels as features.

    This is what a stitching layer (a map of channels) sees. Neighbouring positions are
    not independent, so they count for less than as many independent samples.

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
    """Return an activation with every image as a sample and every entry as a feature.

    Distinguishes positions, as a dense layer after it would; needs many images.

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
        TypeError: if it is no array.
        ValueError: if it has fewer axes.
    """
    one_array("activation", activation)
    activation = jnp.asarray(activation)
    if activation.ndim < 2:
        raise ValueError(
            f"activation: expected shape (images, ..., channels), got "
            f"{activation.shape}; one image is activation[None]"
        )
    return activation


def pair(x: Any, y: Any, weights: Any = None, least: int = 2) -> tuple[Array, Array]:
    """Two activations of the same samples, in one dtype of at least float32.

    Raises:
        TypeError: if one is no array, complex, not numeric, or moments.
        ValueError: if a shape does not fit, there are fewer than `least` samples, an
            array that is not traced holds NaN or infinity, or a weight is not 0 or 1.
    """
    x, y, rest = _selected(x, y, weights)
    if rest is not None:
        raise ValueError(
            "weights: expected 0 or 1 for each sample, and not traced ones, as this "
            "index compares single samples"
        )
    return _checked(x, y, least)


def pair_or_moments(x: Any, y: Any, weights: Any = None, least: int = 2) -> Seen:
    """A pair, given as two activations or by its moments alone.

    Raises:
        TypeError, ValueError: as `pair` does, and for moments of fewer than 2 samples,
            of one activation only, or that are not finite.
    """
    if not isinstance(x, Moments):
        x, y, rest = _selected(x, y, weights)
        if rest is None:
            return _checked(x, y, least)
        return moments(*_checked(x, y, least), weights=rest)
    for name, value in (("y", y), ("weights", weights)):
        if value is not None:
            raise TypeError(
                f"{name}: expected None with Moments, got {type(value).__name__}"
            )
    if 0 in x.xy.shape:
        raise ValueError(
            "x: expected moments of a pair, got those of one activation; compute "
            "stitching.moments(x, y)"
        )
    known = not any(isinstance(array, Tracer) for array in (x.count, x.xx))
    if known and float(x.count) < 2 and not np.any(x.xx):
        raise ValueError(f"x: expected at least 2 samples, got {float(x.count):g}")
    if not all(finite(*x)):
        raise ValueError(
            "x: expected finite moments, got NaN or infinity; the activations hold NaN "
            f"or infinity, or their squares do not fit {x.xx.dtype}: scale them first"
        )
    return x


def _selected(x: Any, y: Any, weights: Any) -> tuple[Array, Array, Array | None]:
    """The samples of weight other than 0, and their weights if some are not 1."""
    x, y = matrix("x", x), matrix("y", y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"x and y: expected the same samples in the same order, got {x.shape[0]} "
            f"and {y.shape[0]}"
        )
    if weights is None:
        return x, y, None
    weights = sample_weights(weights, x.shape[:1])
    if isinstance(weights, Tracer):
        return x, y, weights
    kept = np.flatnonzero(weights)
    x, y, weights = x[kept], y[kept], weights[kept]
    return x, y, None if (weights == 1).all() else weights


def _checked(x: Array, y: Array, least: int) -> tuple[Array, Array]:
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
        TypeError: if it is no array, complex, not numeric, or moments.
        ValueError: if the shape does not fit.
    """
    if isinstance(array, Moments):
        raise TypeError(
            f"{name}: expected an activation (samples, features), got Moments; "
            f"where an index can be computed from them, they are the only argument"
        )
    if array is None:
        raise TypeError(
            f"{name}: expected an activation of shape (samples, features), got None; "
            f"only Moments, which hold both activations, come without it"
        )
    array = real(name, array)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name}: expected shape (samples, features), got {array.shape}; make maps "
            f"or tokens samples with similarity.positions({name}) or features with "
            f"similarity.flattened({name})"
        )
    return array


def moments_of(seen: Seen) -> Moments:
    """Moments of both activations in units of their largest deviation.

    Isotropic scaling changes no index that uses them, and in these units no square and
    no sum of squares is too large or too small for the dtype.
    """
    if not isinstance(seen, Moments):
        seen = moments(*(in_units(each)[0] for each in seen))
    largest = (jnp.diagonal(second).max() for second in (seen.xx, seen.yy))
    x, y = (jnp.sqrt(jnp.where(value > 0, value, 1)) for value in largest)
    return Moments(
        seen.count,
        seen.mean_x / x,
        seen.mean_y / y,
        seen.xx / x / x,
        seen.xy / x / y,
        seen.yy / y / y,
    )


def in_units(x: Array) -> tuple[Array, Array]:
    """An array divided by a power of 2 near its largest entry, and that power."""
    _, exponent = jnp.frexp(jnp.abs(jax.lax.stop_gradient(x)).max())
    limits = jnp.finfo(x.dtype)  # Within them, 1 / unit is neither 0 nor infinite.
    exponent = exponent.clip(limits.minexp, limits.maxexp - 2)
    unit = jnp.ldexp(jnp.ones((), x.dtype), exponent)
    return x / unit, unit


def defined(index: str, value: Array, why: str) -> Array:
    """An index that exists.

    Raises:
        ValueError: if it is NaN and not traced; where it is traced it stays NaN.
    """
    if not isinstance(value, Tracer) and np.isnan(value).any():
        raise ValueError(f"{index} is not defined: {why}")
    return value


CONSTANT = "no feature of x, or none of y, varies over the samples"
