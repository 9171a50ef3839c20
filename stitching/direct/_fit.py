"""Affine maps of one activation to another, fitted from the moments of the pair."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment

from stitching._checks import eager, nonnegative, one_array, one_of
from stitching._linear import times, varying, whitening
from stitching._moments import Moments, correlations, pair_moments


class Fit(NamedTuple):
    r"""An affine map of channels, :math:`x \mapsto x W + b`.

    A tree of arrays; a stack of fits (of several penalties, or from `vmap`) is applied
    by `jax.vmap`.

    Attributes:
        weight: W, one row per input channel.
        bias: b.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> fit = stitching.Fit(jnp.array([[1.0, 0.0], [1.0, 2.0]]), jnp.ones(2))
        >>> fit(jnp.array([[3.0, 4.0]])).tolist()
        [[8.0, 9.0]]
    """

    weight: Float[Array, "p q"]
    bias: Float[Array, " q"]

    def __call__(self, activation: Float[ArrayLike, "*n p"]) -> Float[Array, "*n q"]:
        """Return the map of an activation, channels last.

        Raises:
            TypeError: for several arrays.
            ValueError: if the number of channels is not the fit's, or this is a stack.
        """
        one_array("activation", activation)
        activation = jnp.asarray(activation)
        check_channels(self, activation.shape[-1:], "activation")
        return times(activation, self.weight) + self.bias


def check_channels(fit: Fit, channels: tuple[int, ...], name: str) -> None:
    """Raise a ValueError unless this is one fit with that number of channels."""
    if fit.weight.ndim != 2:
        raise ValueError(
            f"fit: expected one weight of shape (in, out), got {fit.weight.shape}; "
            "apply a stack of fits with jax.vmap"
        )
    expected = fit.weight.shape[: len(channels)]
    if channels != expected or not channels:
        raise ValueError(
            f"{name}: expected {expected} channels as the fit has, got {channels}"
        )


def with_means(weight: Float[Array, "p q"], moments: Moments) -> Fit:
    """Return the fit of this weight whose bias maps the mean of x to that of y."""
    return Fit(weight, moments.mean_y - times(moments.mean_x, weight))


def residual(fit: Fit, moments: Moments) -> Float[Array, ""]:
    r"""Return the mean squared error of a fit, over samples and output channels.

    .. math::

        \frac{1}{q}\,\mathbb{E}\,\|y - x W - b\|^2

    From moments of samples that the fit has not seen it is the held-out error. Its
    resolution is that of the moments, about 10⁻⁶ of the variance of y in float32.

    Args:
        fit: any map from x to y.
        moments: of the pair (x, y).

    Returns:
        A scalar, not negative, in squared units of y.

    Raises:
        TypeError, ValueError: if the moments are not of a pair with the fit's channels.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> seen = stitching.moments(x, x**2)
        >>> round(float(stitching.residual(stitching.least_squares(seen), seen)), 4)
        0.2222
    """
    moments = pair_moments("moments", moments)
    check_channels(fit, moments.xy.shape, "moments")
    explained = times(moments.xx, fit.weight) - 2 * moments.xy
    errors = jnp.diagonal(moments.yy) + (fit.weight * explained).sum(axis=0)
    offset = moments.mean_y - fit(moments.mean_x)
    return (errors.clip(min=0) + offset**2).mean()


def r_squared(fit: Fit, moments: Moments) -> Float[Array, ""]:
    r"""Return the share of the variance of y that a fit explains, over all channels.

    .. math::

        R^2 = 1 - \frac{\mathbb{E}\,\|y - x W - b\|^2}{\mathbb{E}\,\|y - \mu_y\|^2}

    with the mean of the given moments. Held out, it may be negative.

    Args:
        fit: any map from x to y.
        moments: of the pair (x, y); not those of the fit for a held-out value.

    Returns:
        A scalar, at most 1; NaN where y does not vary.

    Raises:
        TypeError, ValueError: as for `residual`.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> seen = stitching.moments(x, x**2)
        >>> round(float(stitching.r_squared(stitching.least_squares(seen), seen)), 4)
        0.9231
    """
    error = residual(fit, moments)
    variances = jnp.diagonal(moments.yy)
    varies = varying(variances, moments.mean_y).any()
    return jnp.where(varies, 1 - error / variances.mean(), jnp.nan)


def least_squares(moments: Moments, ridge: Float[ArrayLike, ""] = 0.0) -> Fit:
    r"""Return the affine map of least squared error, with an optional ridge.

    .. math::

        \min_{W, b} \mathbb{E}\,\|y - x W - b\|^2 + \lambda \|W\|^2, \qquad
        W = (\Sigma_{xx} + \lambda 1)^+ \Sigma_{xy}

    The bias is not penalised. Channels may be collinear or constant: of all best maps
    it is the one of smallest weight in units of the standard deviations of x, so the
    predictions do not depend on the units of the channels. Axes are resolved down to
    2 · 10⁻³ of the strongest in float32, 10⁻⁷ in float64.

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
    return _least_squares(pair_moments("moments", moments), nonnegative("ridge", ridge))


@jax.jit
def _least_squares(moments: Moments, ridge: Array) -> Fit:
    root = _whitening(moments, ridge)
    return with_means(times(root, times(root.T, moments.xy)), moments)


def _whitening(moments: Moments, ridge: Array) -> Float[Array, "p p"]:
    """The root of (Σ_xx + λ1)⁺."""
    varies = varying(jnp.diagonal(moments.xx), moments.mean_x)
    return whitening(moments.xx, varies, ridge.astype(moments.xx.dtype))


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

        It may be traced, so `jax.vmap` gives many ranks.

        Raises:
            TypeError, ValueError: if it is not an integer from 0 to k.
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
    return _reduced_rank(pair_moments("moments", moments), nonnegative("ridge", ridge))


@jax.jit
def _reduced_rank(moments: Moments, ridge: Array) -> ReducedRank:
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


def orthogonal(moments: Moments, scale: bool = False) -> Fit:
    r"""Return the orthogonal map of least squared error, optionally scaled.

    With the singular value decomposition of the cross-covariance,

    .. math::

        \Sigma_{xy} = U S V^\top, \qquad Q = U V^\top, \qquad W = s\, Q, \qquad
        s = \frac{\operatorname{tr} S}{\operatorname{tr} (Q^\top \Sigma_{xx} Q)}

    Reflections are allowed. For p ≤ q channels it has orthonormal rows and the least
    error of all such maps. For p > q it has orthonormal columns and the largest
    covariance with y; another such map may have a lower error.

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
        >>> stitching.orthogonal(seen, scale=True).weight.round(4).tolist()
        [[0.0, 2.0], [2.0, 0.0]]

    References:
        Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    return _orthogonal(pair_moments("moments", moments), scale)


@functools.partial(jax.jit, static_argnames="scale")
def _orthogonal(moments: Moments, scale: bool) -> Fit:
    left, values, right = jnp.linalg.svd(moments.xy, full_matrices=False)
    weight = times(left, right)
    if scale:
        spread = (weight * times(moments.xx, weight)).sum()
        weight = weight * values.sum() / jnp.where(spread > 0, spread, 1)
    return with_means(weight, moments)


def permutation(moments: Moments, by: str = "error") -> Fit:
    r"""Return the map in which each target channel takes a source channel of its own.

    .. math::

        \min_{\pi} \sum_j \mathbb{E}\,(y_j - x_{\pi(j)} - b_j)^2
        \qquad\text{or}\qquad
        \max_{\pi} \sum_j \operatorname{corr}(x_{\pi(j)}, y_j)

    With more sources, some are not taken; with more targets, some get none: their
    weight is zero and their bias the mean. The assignment runs on the host, so not
    inside `jit` or `vmap`.

    Args:
        moments: of the pair (x, y).
        by: "error" for the least squared error, or "correlation", which does not
            depend on the units of the channels.

    Returns:
        The `Fit`; its weight holds zeros and ones, at most one 1 per row and column.

    Raises:
        TypeError, ValueError: if the moments are not of a pair, or traced, or `by`
            is unknown.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> stitching.permutation(stitching.moments(x, x[:, ::-1])).weight.tolist()
        [[0.0, 1.0], [1.0, 0.0]]

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    moments = pair_moments("moments", moments)
    if isinstance(moments.xy, Tracer):
        raise TypeError(
            "moments: expected arrays with values, got traced ones; the assignment "
            "runs on the host: call permutation outside jit and vmap, or use "
            "semi_matching"
        )
    # In float64, in which large variances do not hide small covariances.
    on_host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), moments)
    with eager():
        costs = np.asarray(_costs(on_host, by))
    sources, targets = linear_sum_assignment(costs)
    weight = jnp.zeros_like(moments.xy).at[sources, targets].set(1)
    return with_means(weight, moments)


def semi_matching(moments: Moments, by: str = "error") -> Fit:
    """Return the map in which each target channel takes its best source channel.

    Several may take the same.

    Args:
        moments: of the pair (x, y).
        by: "error" for the least squared error, or "correlation", as in `permutation`.

    Returns:
        The `Fit`; its weight holds zeros and ones, one 1 in each column.

    Raises:
        TypeError, ValueError: if the moments are not of a pair, or `by` is unknown.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> y = jnp.stack([x[:, 1], x[:, 0], x[:, 1]], axis=1)
        >>> stitching.semi_matching(stitching.moments(x, y)).weight.tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    moments = pair_moments("moments", moments)
    costs = _costs(moments, by)
    weight = jax.nn.one_hot(costs.argmin(axis=0), costs.shape[0], dtype=costs.dtype)
    return with_means(weight.T, moments)


def _costs(moments: Moments, by: str) -> Float[Array, "p q"]:
    """What each pair costs, up to a constant of the target."""
    one_of("by", by, ("error", "correlation"))
    if by == "error":
        return moments.xx.diagonal()[:, None] - 2 * moments.xy
    return -correlations(moments)
