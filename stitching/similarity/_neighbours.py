"""Mutual nearest neighbours: are the same samples closest to each other?"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stitching.similarity._distances import (
    OWN,
    Distance,
    euclidean_distance,
    is_one_of,
    measured,
)
from stitching.similarity._samples import Activation, Weights, pair


def mutual_neighbours(
    x: Activation,
    y: Activation,
    k: int = 10,
    *,
    distance: Distance = euclidean_distance,
    weights: Weights = None,
) -> Float[Array, ""]:
    r"""Return the share of nearest neighbours that two activations have in common.

    .. math::

        \frac1n \sum_i \frac{|N_k^x(i) \cap N_k^y(i)|}{k}

    with N_k(i) the k samples nearest to sample i. Independent activations have k / (n −
    1) in common. A local index: samples far away do not count. Where samples are
    equally far (dead, one-hot or sparse features), the value is its expectation over
    ties broken at random, in x and in y independently; where all are, it is k / (n −
    1). Memory grows with n².

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p).
        y: (n, q).
        k: how many neighbours, from 1 to n − 1.
        distance: `similarity.euclidean_distance`, `similarity.correlation_distance`, or
            any function from samples to an (n, n) matrix.
        weights: of the samples, (n,): a mask of booleans or 0 and 1.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError: if an array is complex, not numeric, or moments.
        ValueError: if shapes do not fit, numbers are not finite, or k is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0], [1.0], [3.0], [7.0]])
        >>> float(similarity.mutual_neighbours(x, x**2, k=1))
        1.0

    References:
        Huh et al., 2024, arXiv 2405.07987, there with cosine similarity.
    """
    x, y = pair(x, y, weights)
    n = x.shape[0]
    if not isinstance(k, int | np.integer) or not 1 <= k < n:
        raise ValueError(
            f"k: expected an integer from 1 to {n - 1}, one less than the samples, got "
            f"{k!r}"
        )
    share = _compiled if is_one_of(distance, OWN) else _share
    return share(x, y, int(k), distance)


def _share(x: Array, y: Array, k: int, distance: Distance) -> Array:
    near_x, near_y = (_nearest(measured(distance, each), k) for each in (x, y))
    finite = jnp.isfinite(x).all() & jnp.isfinite(y).all()
    return jnp.where(finite, (near_x * near_y).sum(axis=1).mean() / k, jnp.nan)


_compiled = jax.jit(_share, static_argnames=("k", "distance"))


def _nearest(distances: Float[Array, "n n"], k: int) -> Float[Array, "n n"]:
    """The probability of each sample to be among the k nearest of another.

    It is 1 or 0 but for the samples tied, up to rounding, with the k-th.
    """
    others = jnp.fill_diagonal(distances, jnp.inf, inplace=False)
    kth = -jax.lax.top_k(-others, k)[0][:, -1:]
    rounding = 32 * jnp.finfo(others.dtype).eps * jnp.abs(kth)
    nearer = others < kth - rounding
    tied = ~nearer & (others <= kth + rounding)
    places = k - nearer.sum(axis=1, keepdims=True)
    return nearer + tied * places / tied.sum(axis=1, keepdims=True)
