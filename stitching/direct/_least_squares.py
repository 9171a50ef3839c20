"""The affine map of least squared error."""

from jax.typing import ArrayLike
from jaxtyping import Float

from stitching._moments import Moments
from stitching.direct._checks import nonnegative, pair_moments
from stitching.direct._fit import Fit, times, with_means
from stitching.direct._whitening import whitening


def least_squares(moments: Moments, ridge: Float[ArrayLike, ""] = 0.0) -> Fit:
    r"""The affine map of least squared error, with a ridge on request.

    .. math::

        \min_{W, b} \mathbb{E}\,\|y - x W - b\|^2 + \lambda \|W\|^2, \qquad
        W = (\Sigma_{xx} + \lambda 1)^+ \Sigma_{xy}

    The bias is not penalised. Channels may be collinear or constant: of all best maps
    it is the one of smallest weight in units of the standard deviations of x, so the
    predictions do not depend on the units of the channels. The moments square the
    condition number: axes are resolved down to 2 · 10⁻³ of the strongest in float32,
    10⁻⁷ in float64.

    Args:
        moments: of the pair (x, y).
        ridge: λ, in squared units of x; n λ for sums over n samples.

    Returns:
        The `Fit`, weight (p, q).

    Raises:
        TypeError, ValueError: if the moments are not of a pair, or ridge is negative.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> fit = stitching.least_squares(stitching.moments(x, 3 * x + 1))
        >>> fit.weight.round(4).tolist(), fit.bias.round(4).tolist()
        ([[3.0]], [1.0])

    References:
        Csiszárik et al., 2021, arXiv 2110.14633, section 4.
    """
    moments = pair_moments(moments)
    root = whitening(moments, nonnegative("ridge", ridge, moments.xy))
    return with_means(times(root, times(root.T, moments.xy)), moments)
