"""Canonical correlations and the indices that are means of them."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._moments import Moments, product
from stitching.similarity._principal import (
    Principal,
    PrincipalPair,
    principal_pair,
    with_kept,
)
from stitching.similarity._samples import (
    CONSTANT,
    Activation,
    Seen,
    defined,
    pair_or_moments,
)


def canonical_correlations(
    x: Activation | Moments, y: Activation | None = None, *, centred: bool = True
) -> Float[Array, " r"]:
    r"""The canonical correlations of two activations, the largest first.

    The singular values of :math:`\Sigma_{xx}^{-1/2} \Sigma_{xy} \Sigma_{yy}^{-1/2}`.
    Directions in which an activation does not vary beyond rounding are left out: their
    correlations are 0. From moments such a direction is one of a standard deviation
    below √(ε p) of the largest, about 0.8 % for 512 features in float32; from samples,
    below ε p. With as many features as samples all correlations are 1.

    Invariant to: translation, isotropic scaling, feature scaling, orthogonal maps,
    invertible linear maps, feature permutations, joint sample permutations.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None beside moments.
        centred: whether means are taken off. Where not, a translation changes the
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
    value = _canonical_correlations(pair_or_moments(x, y), centred)
    return defined("canonical_correlations", value, CONSTANT)


@functools.partial(jax.jit, static_argnames="centred")
def _canonical_correlations(seen: Seen, centred: bool) -> Array:
    return _directions(principal_pair(seen, centred))[1]


def cca(
    x: Activation | Moments, y: Activation | None = None, *, centred: bool = True
) -> Float[Array, ""]:
    r"""The mean squared canonical correlation of two activations.

    .. math::

        \frac{1}{r} \sum_i \rho_i^2, \qquad r = \min(\mathrm{rank}\,x, \mathrm{rank}\,y)

    For independent Gaussians with p and q features its mean is max(p, q) / (n − 1): it
    needs many more samples than features.

    Invariant to: translation, isotropic scaling, feature scaling, orthogonal maps,
    invertible linear maps, feature permutations, joint sample permutations.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair. Ranks are told by rounding,
            as in `canonical_correlations`.
        y: (n, q); None beside moments.
        centred: whether means are taken off, as the definition asks. The figures of
            Kornblith et al. are without; then a translation changes the value.

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
    return defined("cca", _cca(pair_or_moments(x, y), centred), CONSTANT)


@functools.partial(jax.jit, static_argnames="centred")
def _cca(seen: Seen, centred: bool) -> Array:
    found = principal_pair(seen, centred)
    return ((found.cross**2).sum() / _rank(found)).clip(0, 1)


def svcca(
    x: Activation | Moments, y: Activation | None = None, *, share: float = 0.99
) -> Float[Array, ""]:
    """The mean canonical correlation of the strongest principal components.

    Of each activation the fewest components are kept that hold the given share of its
    variance.

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None beside moments.
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
    return defined("svcca", _svcca(pair_or_moments(x, y), share), CONSTANT)


@jax.jit
def _svcca(seen: Seen, share: float) -> Array:
    found = principal_pair(seen)
    found = with_kept(found, _leading(found.x, share), _leading(found.y, share))
    return (_directions(found)[1].sum() / _rank(found)).clip(0, 1)


def pwcca(x: Activation | Moments, y: Activation | None = None) -> Float[Array, ""]:
    r"""Canonical correlations, weighted by how much of x their directions account for.

    .. math::

        \frac{\sum_i \alpha_i \rho_i}{\sum_i \alpha_i}, \qquad
        \alpha_i = \sum_j |\langle h_i, x_j \rangle|

    with :math:`h_i` the canonical variates of x and :math:`x_j` its features, the
    min(rank x, rank y) first. Not symmetric. Invariances are those of both arguments; y
    alone may take any invertible linear map, x may not.

    Invariant to: translation, isotropic scaling, feature permutations, joint sample
    permutations. Not to: feature scaling, orthogonal maps, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None beside moments.

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
    return defined("pwcca", _pwcca(pair_or_moments(x, y)), CONSTANT)


@jax.jit
def _pwcca(seen: Seen) -> Array:
    found = principal_pair(seen)
    left, correlations = _directions(found)
    loadings = product(left, found.x.deviations[:, None] * found.x.axes)
    weights = jnp.abs(loadings).sum(axis=1)
    weights = jnp.where(jnp.arange(weights.size) < _rank(found), weights, 0)
    return ((weights * correlations).sum() / weights.sum()).clip(0, 1)


def _directions(found: PrincipalPair) -> tuple[Array, Array]:
    """Canonical directions of x among its principal scores, and the correlations."""
    left, correlations, _ = jnp.linalg.svd(found.cross, full_matrices=False)
    rank = _rank(found)
    return left, jnp.where(rank > 0, correlations.clip(0, 1), jnp.nan)


def _rank(found: PrincipalPair) -> Array:
    return jnp.minimum(found.x.kept.sum(), found.y.kept.sum())


def _leading(principal: Principal, share: float) -> Array:
    """The fewest axes that hold the share of the variance."""
    variances = jnp.where(principal.kept, principal.deviations, 0) ** 2
    before = jnp.cumsum(variances) - variances
    return before < share * variances.sum()
