"""How well single units of one activation match single units of another."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment

from stitching._moments import Moments
from stitching.similarity._samples import CONSTANT, Activation, defined, pair_moments


def unit_correlations(
    x: Activation | Moments, y: Activation | None = None
) -> Float[Array, "p q"]:
    """The correlation of every feature of x with every feature of y.

    A feature that does not vary correlates with nothing: 0.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None beside moments.

    Returns:
        Shape (p, q), in [−1, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> similarity.unit_correlations(x, x).round(3).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    return _correlations(pair_moments(x, y))


def max_correlation(
    x: Activation | Moments, y: Activation | None = None
) -> Float[Array, ""]:
    """The mean over the features of x of the highest correlation with a feature of y.

    Several features of x may take the same one of y (semi-matching), so it is not
    symmetric. Signs count: a feature and its negative do not match. Independent
    activations do not give 0: a maximum over q is taken.

    Invariant to: translation, isotropic scaling, feature scaling, feature permutations,
    joint sample permutations. Not to: orthogonal maps, invertible linear maps. Scales
    are positive ones here.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None beside moments.

    Returns:
        A scalar in [−1, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity.max_correlation(x, 2 * x[:, ::-1])), 5)
        1.0

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    moments = pair_moments(x, y)
    value = _correlations(moments).max(axis=1).mean()
    return defined("max_correlation", _where_varying(moments, value), CONSTANT)


def matched_correlation(
    x: Activation | Moments, y: Activation | None = None
) -> Float[Array, ""]:
    """The mean correlation of features under the best one-to-one matching.

    Of the activation with more features the rest stays unmatched and does not count.
    Signs count. The assignment runs on the host, so not inside `jit` or `vmap`.

    Invariant to: translation, isotropic scaling, feature scaling, feature permutations,
    joint sample permutations. Not to: orthogonal maps, invertible linear maps. Scales
    are positive ones here.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None beside moments.

    Returns:
        A scalar in [−1, 1].

    Raises:
        TypeError: inside `jit` or `vmap`, and if arrays do not fit.
        ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity.matched_correlation(x, 2 * x[:, ::-1])), 5)
        1.0

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    moments = pair_moments(x, y)
    correlations: Any = _correlations(moments)
    if isinstance(correlations, Tracer):
        raise TypeError(
            "x: expected arrays with values, got traced ones; the assignment runs on "
            "the host: call matched_correlation outside jit and vmap, or use "
            "max_correlation"
        )
    matched = linear_sum_assignment(np.asarray(correlations), maximize=True)
    value = correlations[matched].mean()
    return defined("matched_correlation", _where_varying(moments, value), CONSTANT)


def _correlations(moments: Moments) -> Array:
    x, y = jnp.diagonal(moments.xx), jnp.diagonal(moments.yy)
    left, right = (1 / jnp.sqrt(jnp.where(v > 0, v, jnp.inf)) for v in (x, y))
    return (left[:, None] * moments.xy * right).clip(-1, 1)


def _where_varying(moments: Moments, value: Array) -> Array:
    """The value, NaN where no feature of x or none of y varies."""
    varies = (jnp.trace(moments.xx) > 0) & (jnp.trace(moments.yy) > 0)
    return jnp.where(varies, value, jnp.nan)
