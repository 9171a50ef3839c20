"""Activations as samples × features: what all indices take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._checks import finite, one_array, real, sample_weights
from stitching._moments import Moments, moments, pair_moments

Activation = Float[ArrayLike, "n p"]
Weights = Float[ArrayLike, " n"] | None
# The input of linear indices, once it is checked: a pair, or its moments.
Seen = tuple[Array, Array] | Moments
CONSTANT = "no feature of x, or none of y, varies over the samples"


def positions(activation: Float[ArrayLike, "*samples p"]) -> Float[Array, "n p"]:
    """Return an activation with every position as a sample and channels as features.

    This is what a stitching layer sees. Neighbouring positions are not independent, so
    they count for less than as many independent samples.

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
    """Return an array; raise a TypeError or ValueError unless it has two axes."""
    one_array("activation", activation)
    activation = jnp.asarray(activation)
    if activation.ndim < 2:
        raise ValueError(
            f"activation: expected shape (images, ..., channels), got "
            f"{activation.shape}; one image is activation[None]"
        )
    return activation


def pair(x: Any, y: Any, weights: Any = None, least: int = 2) -> tuple[Array, Array]:
    """Return two activations of the same samples; weights are 0 or 1."""
    seen = _weighted(x, y, weights, least)
    if seen[2] is not None:
        raise ValueError(
            "weights: expected 0 or 1 for each sample, and not traced ones, as this "
            "index compares single samples"
        )
    return seen[:2]


def pair_or_moments(x: Any, y: Any, weights: Any = None) -> Seen:
    """Return a pair, given as two activations or by its moments alone, once checked."""
    if not isinstance(x, Moments):
        x, y, weights = _weighted(x, y, weights, 2)
        return (x, y) if weights is None else moments(x, y, weights=weights)
    for name, value in (("y", y), ("weights", weights)):
        if value is not None:
            raise TypeError(
                f"{name}: expected None with Moments, got {type(value).__name__}"
            )
    return pair_moments("x", x)


def _weighted(
    x: Any, y: Any, weights: Any, least: int
) -> tuple[Array, Array, Array | None]:
    """The samples of weight other than 0, and their weights if some are not 1."""
    x, y = _matrix("x", x), _matrix("y", y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"x and y: expected the same samples in the same order, got {x.shape[0]} "
            f"and {y.shape[0]}"
        )
    if weights is not None:
        weights = sample_weights(weights, x.shape[:1])
        if not isinstance(weights, Tracer):
            known = np.asarray(weights)
            kept = np.flatnonzero(known)
            x, y, weights = x[kept], y[kept], weights[kept]
            weights = None if (known[kept] == 1).all() else weights
    if x.shape[0] < least:
        raise ValueError(
            f"x and y: expected at least {least} samples, got {x.shape[0]}"
        )
    for name, is_finite in zip("xy", finite(x, y), strict=True):
        if not is_finite:
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    dtype = jnp.promote_types(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype), weights


def _matrix(name: str, array: Any) -> Array:
    if array is None or isinstance(array, Moments):
        raise TypeError(
            f"{name}: expected an activation of shape (samples, features), got "
            f"{type(array).__name__}; Moments, which hold both activations, are the "
            "only argument of an index that can be computed from them"
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
    """Return moments of both activations in units of their largest deviation.

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
    """Return an array over a power of 2 near its largest entry, and that power."""
    _, exponent = jnp.frexp(jnp.abs(jax.lax.stop_gradient(x)).max())
    limits = jnp.finfo(x.dtype)  # Within them, 1 / unit is neither 0 nor infinite.
    exponent = exponent.clip(limits.minexp, limits.maxexp - 2)
    unit = jnp.ldexp(jnp.ones((), x.dtype), exponent)
    return x / unit, unit


class Undefined(ValueError):
    """An index has no value for these activations."""


def defined(index: str, value: Array, why: str = CONSTANT) -> Array:
    """Return an index; raise an `Undefined` if it is NaN and not traced."""
    if not isinstance(value, Tracer) and np.isnan(value).any():
        raise Undefined(f"{index} is not defined: {why}")
    return value
