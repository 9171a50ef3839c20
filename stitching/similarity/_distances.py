"""Distances between the samples of one activation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._moments import centre, product

# From samples (n, p) to a symmetric (n, n) matrix.
Distance = Callable[[Float[Array, "n p"]], Float[Array, "n n"]]


def samples(x: Any) -> Float[Array, "n p"]:
    """What has a row a sample and a column a feature.

    Raises:
        ValueError: if it has not.
    """
    x = jnp.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"x: expected shape (samples, features), got {x.shape}")
    return x


def squared_distances(x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """‖xᵢ − xⱼ‖², by way of inner products of centred samples."""
    x, _ = centre(samples(x))
    gram = product(x.T, x.T)
    norms = jnp.diagonal(gram)
    distances = (norms[:, None] + norms - 2 * gram).clip(min=0)
    return jnp.fill_diagonal(distances, 0, inplace=False)


def euclidean_distance(x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """‖xᵢ − xⱼ‖ for all pairs of samples.

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
    return jnp.sqrt(squared_distances(x))


def correlation_distance(x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """One minus the correlation over features, for all pairs of samples.

    Args:
        x: (n, p), p at least 2. A sample whose features are all equal correlates with
            nothing: its distances are NaN.

    Returns:
        Shape (n, n), symmetric, zero on the diagonal, in [0, 2].

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [3.0, 2.0]])
        >>> similarity.correlation_distance(x).tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    return _correlation(samples(x))


@jax.jit
def _correlation(x: Array) -> Array:
    features, _ = centre(x.T)
    features = features / jnp.sqrt((features**2).sum(axis=0))
    distances = (1 - product(features, features)).clip(0, 2)
    return jnp.where(
        jnp.eye(x.shape[0], dtype=bool) & ~jnp.isnan(distances), 0, distances
    )


# Pure for certain, so that a program they are built into may be kept. A function of the
# user's may close over what changes: it runs as it is.
OWN = (euclidean_distance, correlation_distance)


def is_one_of(function: Any, functions: tuple[Any, ...]) -> bool:
    """Whether a function is among some, told by identity."""
    return any(function is each for each in functions)


def measured(distance: Distance, x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """The distances of samples.

    Raises:
        TypeError: if there is no function.
        ValueError: if the function does not give one for each pair.
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
