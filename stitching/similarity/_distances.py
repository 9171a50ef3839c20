"""Distances between the samples of one activation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._moments import centre
from stitching.similarity._samples import in_units

_BLOCK = 8  # Features whose differences are summed in one pass.

# From samples (n, p) to a symmetric (n, n) matrix.
Distance = Callable[[Float[Array, "n p"]], Float[Array, "n n"]]


def samples(x: Any) -> Float[Array, "n p"]:
    """A matrix of one row per sample and one column per feature.

    Raises:
        ValueError: if it is no matrix.
    """
    x = jnp.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"x: expected shape (samples, features), got {x.shape}")
    return x


def squared_distances(x: Float[Array, "n p"]) -> tuple[Float[Array, "n n"], Array]:
    """‖xᵢ − xⱼ‖² in units whose root is given as well.

    By differences, not inner products: float32 keeps its precision where samples lie
    close together or far from 0. The sums run over features in one order, so they do
    not depend on the order of samples.
    """
    x, unit = in_units(samples(x))
    n, p = x.shape
    features = jnp.pad(x.T, ((0, -p % _BLOCK), (0, 0))).reshape(-1, _BLOCK, n)

    # Without checkpoints, gradients would keep the differences of every feature.
    @jax.checkpoint
    def add(distances, block):
        for feature in block:
            difference = feature[:, None] - feature
            distances = distances + difference * difference
        return distances, None

    return jax.lax.scan(add, jnp.zeros((n, n), x.dtype), features)[0], unit


def euclidean_distance(x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """Return ‖xᵢ − xⱼ‖ for all pairs of samples.

    Args:
        x: (n, p).

    Returns:
        Shape (n, n), symmetric, zero on the diagonal.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> similarity.euclidean_distance(jnp.array([[0.0, 0.0], [3.0, 4.0]])).tolist()
        [[0.0, 5.0], [5.0, 0.0]]
    """
    return _euclidean(samples(x))


@jax.jit
def _euclidean(x: Array) -> Array:
    distances, unit = squared_distances(x)
    return jnp.sqrt(distances) * unit


def correlation_distance(x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """Return one minus the correlation over features, for all pairs of samples.

    Args:
        x: (n, p), p at least 2. A sample whose features are all equal correlates with
            nothing: its distances are NaN.

    Returns:
        Shape (n, n), symmetric, zero on the diagonal, in [0, 2].

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [3.0, 2.0]])
        >>> similarity.correlation_distance(x).round(3).tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    return _correlation(samples(x))


@jax.jit
def _correlation(x: Array) -> Array:
    features, _ = centre(in_units(x)[0].T)
    unit_vectors = features / jnp.sqrt((features**2).sum(axis=0))
    distances, unit = squared_distances(unit_vectors.T)
    return (distances * unit**2 / 2).clip(0, 2)


# These are pure, so a compiled program that contains them may be kept. A user's
# function may close over something that changes: it runs anew each time.
OWN = (euclidean_distance, correlation_distance)


def is_one_of(function: Any, functions: tuple[Any, ...]) -> bool:
    """Whether a function is one of some, by identity."""
    return any(function is each for each in functions)


def measured(distance: Distance, x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """The distances of samples.

    Raises:
        TypeError: if `distance` is no function.
        ValueError: if it does not return one distance per pair.
    """
    if not callable(distance):
        raise TypeError(f"distance: expected a function of samples, got {distance!r}")
    distances, wanted = jnp.asarray(distance(x)), (x.shape[0], x.shape[0])
    if distances.shape != wanted:
        raise ValueError(
            f"distance: expected a function to a matrix of shape {wanted}, got one to "
            f"shape {distances.shape}"
        )
    return distances
