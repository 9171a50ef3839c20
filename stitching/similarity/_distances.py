"""Indices that compare the distances between samples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.stats
import numpy as np
from jaxtyping import Array, Float

from stitching._checks import real
from stitching._linear import centre, square_root
from stitching.similarity._samples import Activation, Weights, defined, in_units, pair

_BLOCK = 8  # Features whose differences are summed in one pass.

# From samples (n, p) to a symmetric (n, n) matrix.
Distance = Callable[[Float[Array, "n p"]], Float[Array, "n n"]]
Comparison = Callable[[Float[Array, " m"], Float[Array, " m"]], Float[Array, ""]]


def samples(x: Any) -> Float[Array, "n p"]:
    """Return a matrix of one row per sample; raise a ValueError for another shape."""
    x = real("x", jnp.asarray(x))
    if x.ndim != 2:
        raise ValueError(f"x: expected shape (samples, features), got {x.shape}")
    return x


def squared_distances(x: Float[Array, "n p"]) -> tuple[Float[Array, "n n"], Array]:
    """Return ‖xᵢ − xⱼ‖² in units whose root is returned as well.

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
    return square_root(distances) * unit


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
    return _correlation_distance(samples(x))


@jax.jit
def _correlation_distance(x: Array) -> Array:
    features = centre(in_units(x)[0].T)[0]
    unit_vectors = features / jnp.sqrt((features**2).sum(axis=0))
    distances, unit = squared_distances(unit_vectors.T)
    return (distances * unit**2 / 2).clip(0, 2)


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
    return _correlation(*(jax.scipy.stats.rankdata(w) for w in (u, v)))


def _vectors(u: Any, v: Any) -> tuple[Array, Array]:
    u, v = (real("u and v", jnp.asarray(each)) for each in (u, v))
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
    With `distance=euclidean_distance`, translation and orthogonal maps change nothing.
    Memory grows with n².

    Args:
        x, y: (n, p) and (n, q), n at least 3.
        distance: `similarity.correlation_distance` (over features),
            `similarity.euclidean_distance`, or any function from samples to (n, n).
        compare: `similarity.spearman`, `similarity.pearson`, or any function of two
            vectors.
        weights: of the samples, (n,): a mask of booleans or of 0 and 1.

    Returns:
        A scalar in [−1, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit, a sample is constant over the
            features (correlation distance), or all distances are equal.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [4.0, 1.0, 1.0]])
        >>> round(float(stitching.similarity.rsa(x, 3 * x[:, ::-1])), 5)
        1.0

    References:
        Kriegeskorte, Mur and Bandettini, 2008.
    """
    x, y = pair(x, y, weights, least=3)
    own = distance in _OWN and compare in (spearman, pearson)
    return defined(
        "rsa",
        (_compiled_rsa if own else _rsa)(x, y, distance, compare),
        "all distances in x, or all in y, are equal, or a sample has equal features "
        "where correlations are taken over them (use distance=euclidean_distance)",
    )


def _rsa(x: Array, y: Array, distance: Distance, compare: Comparison) -> Array:
    upper = np.triu_indices(x.shape[0], 1)
    distances, differ = [], True
    for each in (x, y):
        values = square_of_samples("distance", distance, each)[upper]
        rounding = 32 * jnp.finfo(values.dtype).eps * jnp.abs(values).max()
        differ &= values.max() - values.min() > rounding
        distances.append(_ranks(values, rounding) if compare is spearman else values)
    compare = pearson if compare is spearman else compare
    return jnp.where(differ, compare(*distances), jnp.nan)


def _ranks(values: Array, rounding: Array) -> Array:
    """Return the mean rank of the values that equal each up to rounding.

    Values tie with those near them, not through them: among many values, a chain of
    neighbours that are each within rounding would join nearly all.
    """
    ascending = jnp.sort(values)
    below = jnp.searchsorted(ascending, values - rounding, side="left")
    up_to = jnp.searchsorted(ascending, values + rounding, side="right")
    return (below + up_to).astype(values.dtype)  # twice the rank, less one


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

    with N_k(i) the k samples nearest to sample i; k / (n − 1) for independent
    activations. A local index: samples far away do not count. Where samples are equally
    far (dead, one-hot or sparse features), the value is its expectation over ties
    broken at random, in x and in y independently. Memory grows with n².

    Args:
        x, y: (n, p) and (n, q).
        k: how many neighbours, from 1 to n − 1.
        distance: as for `rsa`.
        weights: of the samples, (n,): a mask of booleans or of 0 and 1.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit, a sample is constant over the
            features (correlation distance), or k is out of range.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0], [1.0], [3.0], [7.0]])
        >>> float(stitching.similarity.mutual_neighbours(x, x**2, k=1))
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
    found = _compiled_neighbours if distance in _OWN else _neighbours
    return defined(
        "mutual_neighbours",
        found(x, y, int(k), distance),
        "distances are NaN, as where a sample has equal features and correlations are "
        "taken over them (use distance=euclidean_distance)",
    )


def _neighbours(x: Array, y: Array, k: int, distance: Distance) -> Array:
    distances = (square_of_samples("distance", distance, each) for each in (x, y))
    near_x, near_y = (_nearest(each, k) for each in distances)
    finite = jnp.isfinite(x).all() & jnp.isfinite(y).all()
    return jnp.where(finite, (near_x * near_y).sum(axis=1).mean() / k, jnp.nan)


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


# Our distances are pure, so a compiled program that contains them may be kept. A user's
# function may close over something that changes: it runs anew each time.
_OWN = (euclidean_distance, correlation_distance)
_compiled_rsa = jax.jit(_rsa, static_argnames=("distance", "compare"))
_compiled_neighbours = jax.jit(_neighbours, static_argnames=("k", "distance"))


def square_of_samples(name: str, function: Any, x: Array) -> Float[Array, "n n"]:
    """Return a kernel or distance of samples; raise unless it is an (n, n) matrix."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function of samples, got {function!r}")
    matrix, wanted = real(name, function(x)), (x.shape[0], x.shape[0])
    if matrix.shape != wanted:
        raise ValueError(
            f"{name}: expected a function to a matrix of shape {wanted}, got one to "
            f"shape {matrix.shape}"
        )
    return matrix
