"""Maps with few entries other than zero: the lasso, from moments."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._checks import nonnegative
from stitching._linear import times, varying
from stitching._moments import Moments, pair_moments
from stitching.direct._fit import Fit, check_channels, with_means


def sparse(
    moments: Moments,
    penalty: Float[ArrayLike, ""],
    *,
    tolerance: float = 1e-5,
    sweeps: int = 1000,
) -> Fit:
    r"""Return the affine map of least squared error plus an L1 penalty.

    .. math::

        \min_{W, b} \tfrac12 \mathbb{E}\,\|y - x W - b\|^2
            + \lambda \sum_{ij} |W_{ij}|

    by coordinate descent on the moments, one input channel after another. Most entries
    are zero, exactly. The bias is not penalised. Constant channels get no weight.
    Weights of channels of small variance cost more: divide by the standard deviations
    first if they should not.

    Args:
        moments: of the pair (x, y).
        penalty: λ ≥ 0, in units of x times y; from `largest_penalty` on all is zero.
        tolerance: the descent ends when `kkt_violation` is at most this,
        sweeps: or after this many rounds over all input channels.

    Returns:
        The `Fit`, weight (p, q).

    Raises:
        TypeError, ValueError: if the moments are not of a pair, or a number is out of
            range.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> seen = stitching.moments(x, 2 * x[:, 1:])
        >>> stitching.sparse(seen, penalty=0.59375).weight.tolist()
        [[0.0], [1.5]]

    References:
        Friedman, Hastie and Tibshirani, "Regularization paths for generalized linear
        models via coordinate descent", 2010.
    """
    penalty = nonnegative("penalty", penalty)
    path = _path(moments, penalty[None], tolerance, sweeps)
    return jax.tree.map(lambda leaf: leaf[0], path)


def sparse_path(
    moments: Moments,
    penalties: Float[ArrayLike, " k"],
    *,
    tolerance: float = 1e-5,
    sweeps: int = 1000,
) -> Fit:
    """Return the `sparse` fits of several penalties, each starting from the last.

    Faster than one by one if the penalties fall.

    Args:
        moments: of the pair (x, y).
        penalties: k numbers, as in `sparse`.
        tolerance, sweeps: as in `sparse`, for each penalty.

    Returns:
        A stack of fits: weight (k, p, q), bias (k, q); `jax.vmap` applies it.

    Raises:
        TypeError, ValueError: as for `sparse`.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> seen = stitching.moments(x, 2 * x[:, 1:])
        >>> path = stitching.sparse_path(seen, [9.0, 0.5])
        >>> (path.weight != 0).sum((1, 2)).tolist()
        [0, 1]
    """
    return _path(moments, nonnegative("penalties", penalties, 1), tolerance, sweeps)


def largest_penalty(moments: Moments) -> Float[Array, ""]:
    r"""Return the least penalty at which the `sparse` map is zero, max |Σ_xy|.

    Args:
        moments: of the pair (x, y).

    Returns:
        A scalar, in units of x times y.

    Raises:
        TypeError, ValueError: if the moments are not of a pair.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[1.0], [3.0]])
        >>> stitching.largest_penalty(stitching.moments(x, 2 * x)).item()
        2.0
    """
    return jnp.abs(_varying_part(moments).xy).max()


def kkt_violation(
    fit: Fit, moments: Moments, penalty: Float[ArrayLike, ""]
) -> Float[Array, ""]:
    r"""Return how far a `sparse` fit is from the optimum, in units of a correlation.

    With the covariance C of x and the error y − x W − b, the optimum has
    :math:`C_{ij} = \lambda \operatorname{sign} W_{ij}` where W is not zero and
    :math:`|C_{ij}| \le \lambda` where it is. The largest violation, divided by the
    standard deviations of x and y.

    Args:
        fit: a result of `sparse`.
        moments: those that it was fitted on.
        penalty: λ of the fit.

    Returns:
        A scalar, 0 at the optimum.

    Raises:
        TypeError, ValueError: as for `residual` and `sparse`.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> seen = stitching.moments(x, 2 * x[:, 1:])
        >>> fit = stitching.sparse(seen, penalty=0.5)
        >>> bool(stitching.kkt_violation(fit, seen, penalty=0.5) < 1e-5)
        True
    """
    moments = _varying_part(moments)
    check_channels(fit, moments.xy.shape, "moments")
    penalty = nonnegative("penalty", penalty).astype(moments.xy.dtype)
    return _violation(moments, penalty, fit.weight)


def _varying_part(moments: Moments) -> Moments:
    """Moments in which channels of x that do not vary have no covariances."""
    moments = pair_moments("moments", moments)
    varies = varying(jnp.diagonal(moments.xx), moments.mean_x)
    return moments._replace(
        xx=jnp.where(varies[:, None] & varies, moments.xx, 0),
        xy=jnp.where(varies[:, None], moments.xy, 0),
    )


def _path(given: Moments, penalties: Array, tolerance: float, sweeps: int) -> Fit:
    moments = _varying_part(given)
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number, got {tolerance}")
    if sweeps < 1:
        raise ValueError(f"sweeps: expected at least 1, got {sweeps}")
    return _descend(moments, penalties.astype(moments.xy.dtype), tolerance, sweeps)


@jax.jit
def _descend(moments: Moments, penalties: Array, tolerance: float, sweeps: int) -> Fit:
    """Coordinate descent for each penalty, until the conditions of optimality hold."""
    variances = jnp.diagonal(moments.xx)

    def follow(weight, penalty):
        def row(i, weight):
            variance = variances[i]
            pull = moments.xy[i] - times(moments.xx[i], weight) + variance * weight[i]
            new = soft_threshold(pull, penalty) / jnp.where(variance > 0, variance, 1)
            return weight.at[i].set(jnp.where(variance > 0, new, 0))

        def sweep(state):
            weight, done, _ = state
            weight = jax.lax.fori_loop(0, len(variances), row, weight)
            return weight, done + 1, _violation(moments, penalty, weight)

        def unfinished(state):
            return (state[2] > tolerance) & (state[1] < sweeps)

        start = weight, jnp.zeros((), jnp.int32), _violation(moments, penalty, weight)
        weight, *_ = jax.lax.while_loop(unfinished, sweep, start)
        return weight, with_means(weight, moments)

    return jax.lax.scan(follow, jnp.zeros_like(moments.xy), penalties)[1]


def _violation(moments: Moments, penalty: Array, weight: Array) -> Array:
    """The largest violation of the conditions of optimality, as a correlation."""
    x, y = (jnp.sqrt(jnp.diagonal(second)) for second in (moments.xx, moments.yy))
    units = jnp.outer(x, y)
    pull = moments.xy - times(moments.xx, weight)
    if_zero = jnp.maximum(jnp.abs(pull) - penalty, 0)
    if_not = jnp.abs(pull - penalty * jnp.sign(weight))
    violations = jnp.where(weight == 0, if_zero, if_not)
    return (violations / jnp.where(units > 0, units, jnp.inf)).max()


def soft_threshold(array: Array, threshold: Any) -> Array:
    r"""Move each entry towards zero: :math:`\operatorname{sign}(a) (|a| - t)_+`.

    Entries not larger than the threshold become exactly zero.
    """
    return array - jnp.clip(array, -threshold, threshold)
