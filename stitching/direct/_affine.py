"""Affine maps of least squared error: any, of low rank, or orthogonal."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from stitching._moments import Moments
from stitching._whitening import varying, whitening
from stitching.direct._checks import nonnegative, pair_moments
from stitching.direct._fit import Fit, times, with_means


def least_squares(moments: Moments, ridge: Float[ArrayLike, ""] = 0.0) -> Fit:
    r"""Return the affine map of least squared error, with an optional ridge.

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
    root = _whitening(moments, ridge)
    return with_means(times(root, times(root.T, moments.xy)), moments)


class ReducedRank(NamedTuple):
    """The best maps of all ranks r = 0, …, k with k = min(p, q).

    Attributes:
        left: columns, the strongest first; the first r are those of rank r.
        right: orthonormal rows that belong to them.
        mean_x: means of x.
        mean_y: means of y.
        residuals: the mean squared error of each rank on the given moments, from rank
            0 on; of the samples of the fit, not held out.
    """

    left: Float[Array, "p k"]
    right: Float[Array, "k q"]
    mean_x: Float[Array, " p"]
    mean_y: Float[Array, " q"]
    residuals: Float[Array, " k+1"]

    def rank(self, rank: int | Int[Array, ""]) -> Fit:
        """Return the best map of at most this rank.

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
    r"""Return the affine maps of least squared error under a bound on the rank.

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
    root = _whitening(moments, ridge)
    whitened = times(root.T, moments.xy)
    left, values, right = jnp.linalg.svd(whitened, full_matrices=False)
    left = times(root, left * values)
    spread = (left * times(moments.xx, left)).sum(axis=0)
    gains = jnp.cumsum(2 * values**2 - spread)
    total = jnp.trace(moments.yy)
    residuals = (total - jnp.concatenate([jnp.zeros_like(gains[:1]), gains])).clip(0)
    residuals = residuals / moments.yy.shape[0]
    return ReducedRank(left, right, moments.mean_x, moments.mean_y, residuals)


def _whitening(moments: Moments, ridge: Float[ArrayLike, ""]) -> Float[Array, "p p"]:
    ridge = nonnegative("ridge", ridge, moments.xy)
    varies = varying(jnp.diagonal(moments.xx), moments.mean_x)
    return whitening(moments.xx, varies, ridge)


def orthogonal(moments: Moments, scale: bool = False) -> Fit:
    r"""Return the orthogonal map of least squared error, optionally scaled.

    With the singular value decomposition of the cross-covariance,

    .. math::

        \Sigma_{xy} = U S V^\top, \qquad Q = U V^\top, \qquad W = s\, Q, \qquad
        s = \frac{\operatorname{tr} S}{\operatorname{tr} (Q^\top \Sigma_{xx} Q)}

    Reflections are allowed. For p ≤ q channels it has orthonormal rows (W Wᵀ = 1) and
    the least error of all such maps. For p > q it has orthonormal columns (Wᵀ W = 1)
    and the largest covariance with y; among such maps another may have a lower error,
    which has no closed form.

    Args:
        moments: of the pair (x, y).
        scale: whether the map is multiplied by the s of least error; else s = 1.

    Returns:
        The `Fit`, weight (p, q).

    Raises:
        TypeError, ValueError: if the moments are not of a pair.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> seen = stitching.moments(x, 2 * x[:, ::-1])
        >>> stitching.orthogonal(seen).weight.round(4).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        >>> stitching.orthogonal(seen, scale=True).weight.round(4).tolist()
        [[0.0, 2.0], [2.0, 0.0]]

    References:
        Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    moments = pair_moments(moments)
    left, values, right = jnp.linalg.svd(moments.xy, full_matrices=False)
    weight = times(left, right)
    if scale:
        spread = (weight * times(moments.xx, weight)).sum()
        weight = weight * values.sum() / jnp.where(spread > 0, spread, 1)
    return with_means(weight, moments)
