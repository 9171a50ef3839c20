"""How much of one activation a linear map of the other explains."""

import jax
from jaxtyping import Array, Float

from stitching._moments import Moments
from stitching.similarity._principal import principal_pair
from stitching.similarity._samples import (
    CONSTANT,
    Activation,
    Seen,
    defined,
    pair_or_moments,
)


def linear_regression(
    x: Activation | Moments, y: Activation | None = None
) -> Float[Array, ""]:
    r"""The share of the variance of y that the best affine map of x explains.

    .. math::

        R^2 = \frac{\|Q_x^\top Y\|^2}{\|Y\|^2}

    with Q_x an orthonormal basis of the centred x. Not symmetric. It is the *fit* on
    the given samples, which grows with features: for an independent Gaussian x of p
    features its mean is p / (n − 1).

    x alone may take any invertible linear map; what both may take:

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair. Its rank is told by rounding,
            as in `canonical_correlations`.
        y: (n, q), what is explained; None beside moments.

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
    return defined("linear_regression", _explained(pair_or_moments(x, y)), CONSTANT)


@jax.jit
def _explained(seen: Seen) -> Array:
    found = principal_pair(seen)
    variances = found.y.deviations**2
    explained = (found.cross**2 * variances).sum()
    # Without any axis of x nothing is explained and nothing could be.
    return (explained / (variances.sum() * found.x.kept.any())).clip(0, 1)
