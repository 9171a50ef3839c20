"""Canonical correlations, the indices that are means of them, and regression."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._moments import Moments, product
from stitching.similarity._samples import (
    CONSTANT,
    Activation,
    Seen,
    Weights,
    defined,
    pair_or_moments,
)
from stitching.similarity._whitened import Whitened, whitened


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
    correlations are 0. With every feature in units of its standard deviation, such a
    direction is one of a standard deviation below √(32 ε) of the largest from moments,
    0.2 % in float32, and below ε p from samples. With as many features as samples all
    correlations are 1.

    Invariant to: translation, isotropic scaling, feature scaling, orthogonal maps,
    invertible linear maps, feature permutations, joint sample permutations.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.
        centred: whether means are subtracted. Where not, a translation changes the
            value.

    Returns:
        min(p, q) numbers in [0, 1]; n of them where there are fewer samples.

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> similarity.canonical_correlations(x, x[:, :1]).round(3).tolist()
        [1.0]

    References:
        Hotelling, 1936. By SVD: Björck and Golub, 1973.
    """
    value = _canonical_correlations(pair_or_moments(x, y, weights), centred)
    return defined("canonical_correlations", value, CONSTANT)


@functools.partial(jax.jit, static_argnames="centred")
def _canonical_correlations(seen: Seen, centred: bool) -> Array:
    pair = whitened(seen, centred)
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

    Invariant to: translation, isotropic scaling, feature scaling, orthogonal maps,
    invertible linear maps, feature permutations, joint sample permutations.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair. Ranks are found as in
            `canonical_correlations`.
        y: (n, q); None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.
        centred: whether means are subtracted, as the definition asks. The figures of
            Kornblith et al. do not; then a translation changes the value.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> maps = jnp.array([[1.0, 2.0], [0.0, 1.0]])
        >>> round(float(similarity.cca(x, x @ maps)), 5)
        1.0

    References:
        Kornblith et al., 2019, arXiv 1905.00414, R²_CCA.
    """
    return defined("cca", _cca(pair_or_moments(x, y, weights), centred), CONSTANT)


@functools.partial(jax.jit, static_argnames="centred")
def _cca(seen: Seen, centred: bool) -> Array:
    pair = whitened(seen, centred)
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

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.
        share: of the variance, in (0, 1].

    Returns:
        A scalar in [0, 1]: the mean of the correlations themselves, not of their
        squares.

    Raises:
        TypeError, ValueError: if arrays do not fit, nothing varies, or the share is out
            of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 30.0]])
        >>> round(float(similarity.svcca(x, x[:, 1:])), 5)
        1.0

    References:
        Raghu et al., 2017, arXiv 1706.05806.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a number in (0, 1], got {share}")
    value = _svcca(pair_or_moments(x, y, weights), share, share == 1)
    return defined("svcca", value, CONSTANT)


@functools.partial(jax.jit, static_argnames="all_axes")
def _svcca(seen: Seen, share: float, all_axes: bool) -> Array:
    pair = whitened(seen)
    cross, rank = pair.cross, pair.rank
    if not all_axes:
        x, y = (_strongest(each, share) for each in (pair.x, pair.y))
        cross = product(x, product(cross.T, y))
        rank = jnp.minimum(*((each != 0).any(axis=0).sum() for each in (x, y)))
    return (jnp.linalg.svdvals(cross).sum() / rank).clip(0, 1)


def _strongest(activation: Whitened, share: float) -> Array:
    """Principal axes among the scores, one per column; 0 beyond the share."""
    axes, deviations, _ = jnp.linalg.svd(activation.factor, full_matrices=False)
    variances = deviations**2
    before = jnp.cumsum(variances) - variances
    return jnp.where(before < share * variances.sum(), axes, 0)


def pwcca(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the mean canonical correlation, weighted by the share of x explained.

    .. math::

        \frac{\sum_i \alpha_i \rho_i}{\sum_i \alpha_i}, \qquad
        \alpha_i = \sum_j |\langle h_i, x_j \rangle|

    with :math:`h_i` the canonical variates of x and :math:`x_j` its features, the
    min(rank x, rank y) first. Not symmetric. Invariances are those of both arguments;
    an invertible linear map of y alone changes nothing, one of x does.

    Invariant to: translation, isotropic scaling, feature permutations, joint sample
    permutations. Not to: feature scaling, orthogonal maps, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity.pwcca(x, x + 1)), 5)
        1.0

    References:
        Morcos et al., 2018, arXiv 1806.05759.
    """
    return defined("pwcca", _pwcca(pair_or_moments(x, y, weights)), CONSTANT)


@jax.jit
def _pwcca(seen: Seen) -> Array:
    pair = whitened(seen)
    left, correlations, _ = jnp.linalg.svd(pair.cross, full_matrices=False)
    weights = jnp.abs(product(left, pair.x.factor)).sum(axis=1)
    weights = jnp.where(jnp.arange(weights.size) < pair.rank, weights, 0)
    return ((weights * correlations).sum() / weights.sum()).clip(0, 1)


def linear_regression(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the share of the variance of y that the best affine map of x explains.

    .. math::

        R^2 = \frac{\|Q_x^\top Y\|^2}{\|Y\|^2}

    with Q_x an orthonormal basis of the centred x. Not symmetric. It is the *fit* on
    the given samples, which grows with features: for an independent Gaussian x of p
    features its mean is p / (n − 1).

    An invertible linear map of x alone changes nothing. Of maps of both:

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair. Its rank is found as in
            `canonical_correlations`.
        y: (n, q), what is explained; None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> y = x[:, :1] - 2 * x[:, 1:]
        >>> round(float(similarity.linear_regression(x, y)), 5)
        1.0

    References:
        Kornblith et al., 2019, arXiv 1905.00414, R²_LR.
    """
    return defined(
        "linear_regression",
        _explained(pair_or_moments(x, y, weights)),
        CONSTANT,
    )


@jax.jit
def _explained(seen: Seen) -> Array:
    pair = whitened(seen)
    total = (pair.y.factor**2).sum()
    explained = (product(pair.cross.T, pair.y.factor) ** 2).sum()
    # Without any axis of x nothing is explained and nothing could be.
    return (explained / (total * pair.x.kept.any())).clip(0, 1)
