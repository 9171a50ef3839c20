"""Maps with few entries other than zero: the lasso."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._moments import Moments
from stitching.direct._checks import nonnegative
from stitching.direct._fit import Fit, with_means
from stitching.direct._lasso import descend, lasso, violation


def sparse(
    moments: Moments,
    penalty: Float[ArrayLike, ""],
    *,
    tolerance: float = 1e-5,
    sweeps: int = 1000,
) -> Fit:
    r"""The affine map of least squared error plus an L1 penalty; most entries are zero.

    .. math::

        \min_{W, b} \tfrac12 \mathbb{E}\,\|y - x W - b\|^2
            + \lambda \sum_{ij} |W_{ij}|

    by coordinate descent on the moments, all output channels together, one input
    channel after another. Zeros are exact. The bias is not penalised. Constant channels
    get no weight. Weights of channels of small variance cost more than those of large
    variance: divide by the standard deviations first if they should not.

    Args:
        moments: of the pair (x, y).
        penalty: λ ≥ 0, in units of x times y; from `largest_penalty` on all is zero.
        tolerance: it ends when `kkt_violation` is at most this.
        sweeps: or after so many rounds over all input channels; `kkt_violation` tells
            whether that was enough.

    Returns:
        The `Fit`, weight (p, q).

    Raises:
        TypeError, ValueError: if the moments are not of a pair, or a number is out of
            range.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> seen = stitching.moments(x, 2 * x[:, 1:])
        >>> fit = stitching.sparse(seen, penalty=0.59375)
        >>> fit.weight.tolist()
        [[0.0], [1.5]]

    References:
        Friedman, Hastie and Tibshirani, "Regularization paths for generalized linear
        models via coordinate descent", 2010.
    """
    problem = lasso(moments)
    penalty = nonnegative("penalty", penalty, problem.xy)
    weight = descend(
        problem, penalty, jnp.zeros_like(problem.xy), _limits(tolerance, sweeps)
    )
    return with_means(weight, moments)


def sparse_path(
    moments: Moments,
    penalties: Float[ArrayLike, " k"],
    *,
    tolerance: float = 1e-5,
    sweeps: int = 1000,
) -> Fit:
    """The `sparse` fits of several penalties, each starting from the one before.

    Faster than one by one if the penalties fall.

    Args:
        moments: of the pair (x, y).
        penalties: (k,), as in `sparse`.
        tolerance: as in `sparse`.
        sweeps: as in `sparse`, for each penalty.

    Returns:
        A stack of fits: weight (k, p, q), bias (k, q); `jax.vmap` applies it.

    Raises:
        TypeError, ValueError: as for `sparse`.

    Example:
        >>> import jax, jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> seen = stitching.moments(x, 2 * x[:, 1:])
        >>> top = stitching.largest_penalty(seen)
        >>> path = stitching.sparse_path(seen, top * jnp.array([1.0, 0.5, 0.1]))
        >>> (path.weight != 0).sum((1, 2)).tolist()
        [0, 1, 1]
        >>> explained = jax.vmap(stitching.r_squared, (0, None))(path, seen)
        >>> bool((jnp.diff(explained) > 0).all())
        True
    """
    problem = lasso(moments)
    penalties = nonnegative("penalties", penalties, problem.xy, axes=1)
    limits = _limits(tolerance, sweeps)

    def follow(weight, penalty):
        weight = descend(problem, penalty, weight, limits)
        return weight, with_means(weight, moments)

    return jax.lax.scan(follow, jnp.zeros_like(problem.xy), penalties)[1]


def largest_penalty(moments: Moments) -> Float[Array, ""]:
    r"""The least penalty at which the `sparse` map is zero, :math:`\max |\Sigma_{xy}|`.

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
    return jnp.abs(lasso(moments).xy).max()


def kkt_violation(
    fit: Fit, moments: Moments, penalty: Float[ArrayLike, ""]
) -> Float[Array, ""]:
    r"""How far a `sparse` fit is from the optimum, in units of a correlation.

    With the covariance C of x and the error y − x W − b, the optimum has
    :math:`C_{ij} = \lambda \operatorname{sign} W_{ij}` where W is not zero and
    :math:`|C_{ij}| \le \lambda` where it is. The largest violation, divided by the
    standard deviations of x and y.

    Args:
        fit: what `sparse` gave.
        moments: those it was fitted on.
        penalty: λ, as it was.

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
    problem = lasso(moments)
    fit.check(problem.xy.shape, "moments")
    penalty = nonnegative("penalty", penalty, problem.xy)
    return violation(problem, penalty, fit.weight)


def _limits(tolerance: float, sweeps: int) -> tuple[float, int]:
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number, got {tolerance}")
    if sweeps < 1:
        raise ValueError(f"sweeps: expected at least 1, got {sweeps}")
    return tolerance, sweeps
