"""Representational similarity analysis: are the same samples close to each other?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.stats
import numpy as np
from jaxtyping import Array, Float

from stitching.similarity._distances import (
    OWN,
    Distance,
    correlation_distance,
    is_one_of,
    measured,
)
from stitching.similarity._samples import Activation, Weights, defined, in_units, pair

Comparison = Callable[[Float[Array, " m"], Float[Array, " m"]], Float[Array, ""]]


def pearson(u: Float[Array, " m"], v: Float[Array, " m"]) -> Float[Array, ""]:
    """Return the correlation of two vectors; NaN where one is constant.

    Raises:
        ValueError: if they are not two vectors of one length.
    """
    return _correlation(*_vectors(u, v))


def spearman(u: Float[Array, " m"], v: Float[Array, " m"]) -> Float[Array, ""]:
    """Return the correlation of the ranks of two vectors, ties at their mean rank.

    Raises:
        ValueError: if they are not two vectors of one length.
    """
    return _rank_correlation(*_vectors(u, v))


@jax.jit
def _correlation(u: Array, v: Array) -> Array:
    u, v = (in_units(w - w.mean())[0] for w in (u, v))
    u, v = (w / jnp.sqrt((w * w).sum()) for w in (u, v))
    return (u * v).sum().clip(-1, 1)


@jax.jit
def _rank_correlation(u: Array, v: Array) -> Array:
    ranks = (jax.scipy.stats.rankdata(w).astype(w.dtype) for w in (u, v))
    return _correlation(*ranks)


def _vectors(u: Any, v: Any) -> tuple[Array, Array]:
    u, v = jnp.asarray(u), jnp.asarray(v)
    if u.ndim != 1 or u.shape != v.shape:
        raise ValueError(
            f"u and v: expected two vectors of one length, got shapes {u.shape} and "
            f"{v.shape}"
        )
    return u, v


def rsa(
    x: Activation,
    y: Activation,
    *,
    distance: Distance = correlation_distance,
    compare: Comparison = spearman,
    weights: Weights = None,
) -> Float[Array, ""]:
    """Return the correlation of the distances between samples in two activations.

    The n(n − 1)/2 distances between samples are taken in each activation, and the two
    lists compared. With `spearman`, distances that are equal up to rounding are tied.
    Memory grows with n².

    Invariant to: isotropic scaling, feature permutations, joint sample permutations.
    Not to: translation, orthogonal maps, feature scaling, invertible linear maps. With
    `distance=euclidean_distance` also to translation and orthogonal maps.

    Args:
        x: (n, p), n at least 3.
        y: (n, q).
        distance: `similarity.correlation_distance` (over features),
            `similarity.euclidean_distance`, or any function from samples to an (n, n)
            matrix.
        compare: `similarity.spearman`, `similarity.pearson`, or any function of two
            vectors.
        weights: of the samples, (n,): a mask of booleans or 0 and 1.

    Returns:
        A scalar in [−1, 1].

    Raises:
        TypeError: if an array is complex, not numeric, or moments.
        ValueError: if shapes do not fit, numbers are not finite, a sample is constant
            over the features (correlation distance), or all distances are equal.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [4.0, 1.0, 1.0]])
        >>> round(float(similarity.rsa(x, 3 * x[:, ::-1])), 5)
        1.0

    References:
        Kriegeskorte, Mur and Bandettini, 2008.
    """
    x, y = pair(x, y, weights, least=3)
    own = is_one_of(distance, OWN) and is_one_of(compare, (spearman, pearson))
    compared = _compiled if own else _compared
    return defined(
        "rsa",
        compared(x, y, distance, compare),
        "all distances in x, or all in y, are equal, or a sample has equal features "
        "where correlations are taken over them (use distance=euclidean_distance)",
    )


def _compared(x: Array, y: Array, distance: Distance, compare: Comparison) -> Array:
    upper = np.triu_indices(x.shape[0], 1)
    distances, differ = [], True
    for each in (x, y):
        values = measured(distance, each)[upper]
        rounding = 32 * jnp.finfo(values.dtype).eps * jnp.abs(values).max()
        differ &= values.max() - values.min() > rounding
        if compare is spearman:  # Equal distances tie, whatever their rounding.
            values = jnp.round(values / jnp.where(rounding > 0, rounding, 1))
        distances.append(values)
    return jnp.where(differ, compare(*distances), jnp.nan)


_compiled = jax.jit(_compared, static_argnames=("distance", "compare"))
