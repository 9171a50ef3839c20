"""Maps of least squared error at every rank, from one decomposition."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from stitching._moments import Moments
from stitching.direct._checks import nonnegative, pair_moments
from stitching.direct._fit import Fit, times
from stitching.direct._whitening import whitening


class ReducedRank(NamedTuple):
    """The best maps of all ranks r = 0, …, k with k = min(p, q).

    Attributes:
        left: columns, the strongest first; the first r are those of rank r.
        right: orthonormal rows that go with them.
        mean_x: what is taken off before.
        mean_y: what is added behind.
        residuals: the mean squared error of each rank on the given moments, from rank
            0 on; of the given samples, not held out.
    """

    left: Float[Array, "p k"]
    right: Float[Array, "k q"]
    mean_x: Float[Array, " p"]
    mean_y: Float[Array, " q"]
    residuals: Float[Array, " k+1"]

    def rank(self, rank: int | Int[Array, ""]) -> Fit:
        """The best map of at most this rank.

        Args:
            rank: an integer in [0, k]; may be traced, so `jax.vmap` gives many ranks.

        Returns:
            The `Fit`, weight (p, q).

        Raises:
            TypeError: if it is not an integer.
            ValueError: if it is not traced and out of range.
        """
        if not jnp.issubdtype(jnp.result_type(rank), jnp.integer):
            raise TypeError(f"rank: expected an integer, got {rank!r}")
        most = self.left.shape[-1]
        if not isinstance(rank, Tracer) and not 0 <= int(rank) <= most:
            raise ValueError(f"rank: expected 0 to {most}, got {rank}")
        left = jnp.where(jnp.arange(most) < rank, self.left, 0)
        bias = self.mean_y - times(times(self.mean_x, left), self.right)
        return Fit(times(left, self.right), bias)


def reduced_rank(moments: Moments, ridge: Float[ArrayLike, ""] = 0.0) -> ReducedRank:
    r"""The affine maps of least squared error under a bound on the rank of the weight.

    .. math::

        \min_{\operatorname{rank} W \le r} \mathbb{E}\,\|y - x W - b\|^2
            + \lambda \|W\|^2, \qquad
        (\Sigma_{xx} + \lambda 1)^{-1/2} \Sigma_{xy} = U S V^\top, \qquad
        W_r = (\Sigma_{xx} + \lambda 1)^{-1/2} U_r S_r V_r^\top

    for all r at once. Not the truncated least squares weight: that has the least
    difference to the *weight*, this one to the *activation*.

    Args:
        moments: of the pair (x, y).
        ridge: λ, in squared units of x, as in `least_squares`.

    Returns:
        The `ReducedRank`; `.rank(r)` is the `Fit` of rank r, `.residuals[r]` its error.

    Raises:
        TypeError, ValueError: if the moments are not of a pair, or ridge is negative.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> ranks = stitching.reduced_rank(stitching.moments(x, x @ x.T))
        >>> ranks.residuals.shape, jnp.linalg.matrix_rank(ranks.rank(1).weight).item()
        ((3,), 1)

    References:
        Izenman, "Reduced-rank regression for the multivariate linear model", 1975.
    """
    moments = pair_moments(moments)
    root = whitening(moments, nonnegative("ridge", ridge, moments.xy))
    whitened = times(root.T, moments.xy)
    left, values, right = jnp.linalg.svd(whitened, full_matrices=False)
    left = times(root, left * values)
    spread = (left * times(moments.xx, left)).sum(axis=0)
    gains = jnp.cumsum(2 * values**2 - spread)
    total = jnp.trace(moments.yy)
    residuals = (total - jnp.concatenate([jnp.zeros_like(gains[:1]), gains])).clip(0)
    residuals = residuals / moments.yy.shape[0]
    return ReducedRank(left, right, moments.mean_x, moments.mean_y, residuals)
