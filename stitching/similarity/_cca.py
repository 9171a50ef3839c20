"""Indices of whitened activations: canonical correlations, regression, shapes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stitching._linear import (
    centre,
    inverse,
    product,
    square_root,
    svd,
    times,
    varying,
    whitening,
)
from stitching._moments import Moments
from stitching.similarity._samples import (
    Activation,
    Seen,
    Weights,
    defined,
    in_units,
    moments_of,
    pair_or_moments,
)


def canonical_correlations(
    x: Activation | Moments,
    y: Activation | None = None,
    *,
    centred: bool = True,
    weights: Weights = None,
) -> Float[Array, " r"]:
    r"""Return the canonical correlations of two activations, the largest first.

    The singular values of :math:`\Sigma_{xx}^{-1/2} \Sigma_{xy} \Sigma_{yy}^{-1/2}`.
    Directions in which an activation does not vary beyond rounding are left out: their
    correlations are 0. In units of the features' standard deviations these are weaker
    than √(32 ε) of the strongest from moments, 0.2 % in float32, and than ε p from
    samples. With as many features as samples all correlations are 1.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        centred: whether means are subtracted; else a translation changes the value.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        min(p, q) numbers in [0, 1]; n of them where there are fewer samples.

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> stitching.similarity.canonical_correlations(x, x[:, :1]).round(3).tolist()
        [1.0]

    References:
        Hotelling, 1936. By SVD: Björck and Golub, 1973.
    """
    value = _canonical_correlations(pair_or_moments(x, y, weights), centred)
    return defined("canonical_correlations", value)


@functools.partial(jax.jit, static_argnames="centred")
def _canonical_correlations(seen: Seen, centred: bool) -> Array:
    pair = _whitened(seen, centred)
    correlations = jnp.linalg.svdvals(pair.cross).clip(0, 1)
    return jnp.where(pair.rank > 0, correlations, jnp.nan)


def cca(
    x: Activation | Moments,
    y: Activation | None = None,
    *,
    centred: bool = True,
    weights: Weights = None,
) -> Float[Array, ""]:
    r"""Return the mean squared canonical correlation of two activations.

    .. math::

        \frac{1}{r} \sum_i \rho_i^2, \qquad r = \min(\mathrm{rank}\,x, \mathrm{rank}\,y)

    For independent Gaussians with p and q features its mean is max(p, q) / (n − 1): it
    needs many more samples than features.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        centred: whether means are subtracted, as the definition asks; the figures of
            Kornblith et al. do not.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> maps = np.array([[1.0, 2.0], [0.0, 1.0]])
        >>> round(float(stitching.similarity.cca(x, x @ maps)), 5)
        1.0

    References:
        Kornblith et al., 2019, arXiv 1905.00414, R²_CCA.
    """
    return defined("cca", _cca(pair_or_moments(x, y, weights), centred))


@functools.partial(jax.jit, static_argnames="centred")
def _cca(seen: Seen, centred: bool) -> Array:
    pair = _whitened(seen, centred)
    return ((pair.cross**2).sum() / pair.rank).clip(0, 1)


def svcca(
    x: Activation | Moments,
    y: Activation | None = None,
    *,
    share: float = 0.99,
    weights: Weights = None,
) -> Float[Array, ""]:
    """Return the mean canonical correlation of the strongest principal components.

    Of each activation, as many of the strongest components are kept as hold the given
    share of its variance.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        share: of the variance, in (0, 1].
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [0, 1]: the mean of the correlations themselves, not of squares.

    Raises:
        TypeError, ValueError: if arrays or share do not fit, or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.svcca(x, 2 * x + 1)), 5)
        1.0

    References:
        Raghu et al., 2017, arXiv 1706.05806.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a number in (0, 1], got {share}")
    value = _svcca(pair_or_moments(x, y, weights), share, share == 1)
    return defined("svcca", value)


@functools.partial(jax.jit, static_argnames="all_axes")
def _svcca(seen: Seen, share: float, all_axes: bool) -> Array:
    pair = _whitened(seen)
    cross, rank = pair.cross, pair.rank
    if not all_axes:
        x, y = (_strongest(each, share) for each in (pair.x, pair.y))
        cross = product(x, product(cross.T, y))
        rank = jnp.minimum(*((each != 0).any(axis=0).sum() for each in (x, y)))
    return (jnp.linalg.svdvals(cross).sum() / rank).clip(0, 1)


def pwcca(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the mean canonical correlation, weighted by the share of x explained.

    .. math::

        \frac{\sum_i \alpha_i \rho_i}{\sum_i \alpha_i}, \qquad
        \alpha_i = \sum_j |\langle h_i, x_j \rangle|

    with :math:`h_i` the canonical variates of x and :math:`x_j` its features, the
    min(rank x, rank y) first. Not symmetric: an invertible linear map of y alone
    changes nothing, one of x does.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.pwcca(x, x + 1)), 5)
        1.0

    References:
        Morcos et al., 2018, arXiv 1806.05759.
    """
    return defined("pwcca", _pwcca(pair_or_moments(x, y, weights)))


@jax.jit
def _pwcca(seen: Seen) -> Array:
    pair = _whitened(seen)
    left, correlations, _ = svd(pair.cross)
    weights = jnp.abs(product(left, pair.x.factor)).sum(axis=1)
    weights = jnp.where(jnp.arange(weights.size) < pair.rank, weights, 0)
    return ((weights * correlations).sum() / weights.sum()).clip(0, 1)


def linear_regression(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the share of the variance of y that the best affine map of x explains.

    .. math::

        R^2 = \frac{\|Q_x^\top Y\|^2}{\|Y\|^2}

    with Q_x an orthonormal basis of the centred x. Not symmetric: an invertible linear
    map of x alone changes nothing. It is the *fit* on the given samples: for an
    independent Gaussian x of p features its mean is p / (n − 1).

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.linear_regression(x, x[:, :1] - 2)), 5)
        1.0

    References:
        Kornblith et al., 2019, arXiv 1905.00414, R²_LR.
    """
    return defined("linear_regression", _explained(pair_or_moments(x, y, weights)))


@jax.jit
def _explained(seen: Seen) -> Array:
    pair = _whitened(seen)
    total = (pair.y.factor**2).sum()
    explained = (product(pair.cross.T, pair.y.factor) ** 2).sum()
    # Without any axis of x nothing is explained and nothing could be.
    return (explained / (total * pair.x.kept.any())).clip(0, 1)


def procrustes(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the Procrustes distance of two activations, centred and of unit norm.

    .. math::

        \min_{Q^\top Q = 1} \|\hat x - \hat y Q\|_F
            = \sqrt{2 - 2 \|\hat x^\top \hat y\|_*}

    A metric: 0 only where a rotation, a scaling and a translation make the activations
    equal. The fewer features are padded by zeros. Near 0 its resolution is the root of
    that of the dtype: 10⁻³ in float32.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [0, √2].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.procrustes(x, 5 - 2 * x[:, ::-1])), 2)
        0.0

    References:
        Ding et al., 2021, arXiv 2108.01661; Williams et al., 2021, arXiv 2110.14739.
    """
    return defined("procrustes", _chord(pair_or_moments(x, y, weights)))


@jax.jit
def _chord(seen: Seen) -> Array:
    return square_root(2 * (1 - _cosine(seen)))


def shape_distance(
    x: Activation | Moments,
    y: Activation | None = None,
    *,
    alpha: float = 1.0,
    weights: Weights = None,
) -> Float[Array, ""]:
    r"""Return the angle between two activations as shapes, partly whitened.

    .. math::

        \arccos \frac{\|\phi(x)^\top \phi(y)\|_*}{\|\phi(x)\|_F \|\phi(y)\|_F}, \qquad
        \phi(x) = C x \left(\alpha 1 + (1 - \alpha) (x^\top C x)^{-1/2}\right)

    with C the centring. A metric for each α. At α = 1 it is the angle whose chord is
    `procrustes`; at α = 0 the cosine is the mean canonical correlation where ranks are
    equal, and invertible linear maps change nothing. Between, α weighs deviations
    summed over samples against 1: the value depends on the units of x and y and on the
    number of samples. Near 0 its resolution is that of `procrustes`.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        alpha: α, in [0, 1].
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [0, π/2], in radians.

    Raises:
        TypeError, ValueError: if arrays or alpha do not fit, or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.shape_distance(x, x[:, :1])), 3)
        0.72

    References:
        Williams et al., 2021, arXiv 2110.14739.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")
    pair = pair_or_moments(x, y, weights)
    value = _angle(pair) if alpha == 1 else _angle_partly_whitened(pair, alpha)
    return defined("shape_distance", value)


@jax.jit
def _angle(seen: Seen) -> Array:
    return _arccos(_cosine(seen))


def _cosine(seen: Seen) -> Array:
    """Of the best aligned shapes: a nuclear norm over two Frobenius norms."""
    moments = moments_of(seen)
    scale_x, scale_y = (jnp.sqrt(jnp.trace(m)) for m in (moments.xx, moments.yy))
    return _nuclear(moments.xy / scale_x / scale_y)


@jax.jit
def _angle_partly_whitened(seen: Seen, alpha: float) -> Array:
    count = seen.count if isinstance(seen, Moments) else len(seen[0])
    pair = _whitened(seen)
    left, right = (_shape(each, count, alpha) for each in (pair.x, pair.y))
    return _arccos(_nuclear(product(left, product(pair.cross.T, right))))


def _arccos(cosine: Array) -> Array:
    """The angle, of gradient 0 where it is 0."""
    return jnp.where(cosine == 1, 0, jnp.arccos(jnp.where(cosine == 1, 0, cosine)))


def _nuclear(matrix: Array) -> Array:
    return jnp.linalg.svdvals(matrix).sum().clip(0, 1)


class _Whitened(NamedTuple):
    """One activation as uncorrelated scores of variance 1 times a matrix.

    Attributes:
        factor: F with x = scores · F · scale, so that FᵀF is the covariance of x in
            units of the scale.
        kept: the scores along which the activation varies beyond rounding. They are
            chosen among correlations, so that a feature of large scale hides no other.
        scale: a number.
    """

    factor: Float[Array, "r p"]
    kept: Bool[Array, " r"]
    scale: Float[Array, ""]


class _WhitenedPair(NamedTuple):
    """Both activations, and correlations of their scores; 0 where one is not kept."""

    x: _Whitened
    y: _Whitened
    cross: Float[Array, "r s"]

    @property
    def rank(self) -> Array:
        """The smaller of the two ranks."""
        return jnp.minimum(self.x.kept.sum(), self.y.kept.sum())


def _whitened(seen: Seen, centred: bool = True) -> _WhitenedPair:
    """Scores from samples (SVD), or from moments (whitening).

    From moments, deviations are roots, so axes are lost that are weaker than the root
    of what samples resolve.
    """
    if isinstance(seen, Moments):
        return _from_moments(seen, centred)
    (scores_x, x), (scores_y, y) = (_of_samples(each, centred) for each in seen)
    return _WhitenedPair(x, y, product(scores_x, scores_y))


def _of_samples(x: Array, centred: bool) -> tuple[Array, _Whitened]:
    x, unit = in_units(x)
    mean: Array | float = 0.0
    if centred:
        x, mean, _ = centre(x)
    largest = jnp.abs(x).max(axis=0)
    largest = jnp.where(largest > 0, largest, 1)
    x = x / largest
    variances = (x * x).mean(axis=0)
    varies = varying(variances, mean / largest)
    deviations = square_root(variances)
    x = jnp.where(varies, x / jnp.where(varies, deviations, 1), 0)
    scores, factor = _scores(x)
    factor = factor / jnp.sqrt(x.shape[0]) * (largest * deviations)
    return scores, _Whitened(factor, (factor != 0).any(axis=1), unit)


@jax.custom_jvp
def _scores(x: Array) -> tuple[Array, Array]:
    """U and F with x = U F and UᵀU = 1; both are 0 along axes that are rounding."""
    scores, values, axes = jnp.linalg.svd(x, full_matrices=False)
    kept = values > jnp.finfo(x.dtype).eps * max(32, x.shape[1]) * values[0]
    return jnp.where(kept, scores, 0), jnp.where(kept, values, 0)[:, None] * axes


@_scores.defjvp
def _scores_jvp(primals, tangents):
    """Derivatives of one choice of U, known up to a rotation, at constant rank."""
    (x,), (change,) = primals, tangents
    scores, factor = _scores(x)
    squares = (factor * factor).sum(axis=1)
    back = jnp.where(squares > 0, factor.T / jnp.where(squares > 0, squares, 1), 0)
    moved = times(change, back)
    turned = product(scores, moved)
    moved = moved - times(scores, turned + turned.T) / 2
    return (scores, factor), (moved, product(moved, x) + product(scores, change))


def _from_moments(given: Moments, centred: bool) -> _WhitenedPair:
    seen = moments_of(given)
    xx, xy, yy = seen.xx, seen.xy, seen.yy
    means: tuple[Array | float, ...] = seen.mean_x, seen.mean_y
    if not centred:
        xx = xx + jnp.outer(seen.mean_x, seen.mean_x)
        xy = xy + jnp.outer(seen.mean_x, seen.mean_y)
        yy = yy + jnp.outer(seen.mean_y, seen.mean_y)
        means = 0.0, 0.0
    roots, activations = [], []
    for second, raw, mean in zip((xx, yy), (given.xx, given.yy), means, strict=True):
        root = whitening(second, varying(jnp.diagonal(second), mean))
        kept = (root != 0).any(axis=0)
        scale = jnp.sqrt(jnp.diagonal(raw).max())
        roots.append(root)
        activations.append(_Whitened(product(root, second), kept, scale))
    x, y = activations
    return _WhitenedPair(x, y, product(roots[0], product(xy.T, roots[1])))


def _strongest(activation: _Whitened, share: float) -> Array:
    """Principal axes among the scores, one per column; 0 beyond the share."""
    axes, deviations, _ = svd(activation.factor)
    variances = deviations**2
    before = jnp.cumsum(variances) - variances
    return jnp.where(before < share * variances.sum(), axes, 0)


def _shape(activation: _Whitened, count: Array | int, alpha: float) -> Array:
    """φ(x) as a matrix from the scores of x, up to a rotation; of norm 1.

    With x = scores · F it is α √n (F Fᵀ)^½ + (1 − α).
    """
    root = _modulus(activation.factor)
    shape = alpha * jnp.sqrt(count) * activation.scale * root
    shape = shape + (1 - alpha) * jnp.diag(activation.kept).astype(root.dtype)
    return shape / jnp.linalg.norm(shape)


@jax.custom_jvp
def _modulus(matrix: Array) -> Array:
    """(M Mᵀ)^½ of a matrix that has no more rows than columns."""
    axes, values, _ = jnp.linalg.svd(matrix, full_matrices=False)
    return product((axes * values).T, axes.T)


@_modulus.defjvp
def _modulus_jvp(primals, tangents):
    """The derivative D solves R D + D R = d(M Mᵀ) for the modulus R."""
    (matrix,), (change,) = primals, tangents
    axes, values, _ = jnp.linalg.svd(matrix, full_matrices=False)
    of_square = times(change, matrix.T)
    along = product(axes, times(of_square + of_square.T, axes))
    along = along * inverse(values + values[:, None], values[0])
    return product((axes * values).T, axes.T), times(axes, times(along, axes.T))
