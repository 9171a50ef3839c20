"""Maps of single channels to single channels."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment

from stitching._moments import Moments
from stitching._whitening import correlations
from stitching.direct._checks import one_of, pair_moments
from stitching.direct._fit import Fit, with_means


def permutation(moments: Moments, by: str = "error") -> Fit:
    r"""Return the map in which each target channel takes a source channel of its own.

    .. math::

        \min_{\pi} \sum_j \mathbb{E}\,(y_j - x_{\pi(j)} - b_j)^2
        \qquad\text{or}\qquad
        \max_{\pi} \sum_j \operatorname{corr}(x_{\pi(j)}, y_j)

    With as many channels on both sides the first is the permutation of largest
    covariance. With more sources, some are not taken; with more targets, some get
    none: their weight is zero and their bias the mean. The assignment runs on the host,
    so not inside `jit` or `vmap`.

    Args:
        moments: of the pair (x, y).
        by: "error" for the least squared error, or "correlation", which does not
            depend on the units of the channels.

    Returns:
        The `Fit`; its weight holds zeros and ones, at most one 1 per row and column.

    Raises:
        TypeError: if the moments are not of a pair, or are traced.
        ValueError: if they are not of a pair, or by is another word.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> fit = stitching.permutation(stitching.moments(x, x[:, ::-1]))
        >>> fit.weight.tolist()
        [[0.0, 1.0], [1.0, 0.0]]

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    moments = pair_moments(moments)
    if isinstance(moments.xy, Tracer):
        raise TypeError(
            "moments: expected arrays with values, got traced ones; the assignment "
            "runs on the host: call permutation outside jit and vmap, or use "
            "semi_matching"
        )
    # In float64, in which large variances do not hide small covariances.
    on_host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), moments)
    sources, targets = linear_sum_assignment(np.asarray(_costs(on_host, by)))
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
        TypeError, ValueError: if the moments are not of a pair, or by is another word.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> y = jnp.stack([x[:, 1], x[:, 0], x[:, 1]], axis=1)
        >>> stitching.semi_matching(stitching.moments(x, y)).weight.tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    moments = pair_moments(moments)
    costs = _costs(moments, by)
    weight = jax.nn.one_hot(costs.argmin(axis=0), costs.shape[0], dtype=costs.dtype)
    return with_means(weight.T, moments)


def _costs(moments: Moments, by: str) -> Float[Array, "p q"]:
    """What each pair costs, up to a constant of the target."""
    one_of("by", by, ("error", "correlation"))
    if by == "error":
        return moments.xx.diagonal()[:, None] - 2 * moments.xy
    return -correlations(moments)
