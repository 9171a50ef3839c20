"""How well single units of one activation match single units of another."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment

from stitching._checks import eager
from stitching._moments import Moments, correlations
from stitching.similarity._samples import (
    Activation,
    Seen,
    Weights,
    defined,
    moments_of,
    pair_or_moments,
)


def unit_correlations(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, "p q"]:
    """Return the correlation of every feature of x with every feature of y.

    A feature that does not vary correlates with nothing: 0.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        Shape (p, q), in [−1, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> stitching.similarity.unit_correlations(x, x)[0, 0].round(3).item()
        1.0
    """
    return _correlations(pair_or_moments(x, y, weights))[0]


def max_correlation(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    """Return the mean over features of x of their highest correlation with y.

    Several features of x may take the same one of y (semi-matching), so it is not
    symmetric. Signs count: a feature and its negative do not match. Independent
    activations do not give 0: a maximum over q is taken.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [−1, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.max_correlation(x, 2 * x[:, ::-1])), 5)
        1.0

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    return defined("max_correlation", _highest(pair_or_moments(x, y, weights)))


@jax.jit
def _highest(seen: Seen) -> Array:
    values, vary = _correlations(seen)
    return jnp.where(vary, values.max(axis=1).mean(), jnp.nan)


def matched_correlation(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    """Return the mean correlation of features under the best one-to-one matching.

    Of the activation with more features the rest stays unmatched and does not count.
    Signs count. The assignment runs on the host, so not inside `jit` or `vmap`.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair.
        weights: of the samples, (n,), at least 0; a mask leaves samples out.

    Returns:
        A scalar in [−1, 1].

    Raises:
        TypeError, ValueError: if arrays do not fit, nothing varies, or inside `jit`.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.matched_correlation(x, 2 * x[:, ::-1])), 5)
        1.0

    References:
        Li et al., 2015, arXiv 1511.07543.
    """
    values, vary = _correlations(pair_or_moments(x, y, weights))
    if isinstance(values, Tracer):  # It may be known all the same, inside `jit`.
        with eager(x, y, weights):
            values, vary = _correlations(pair_or_moments(x, y, weights))
    if isinstance(values, Tracer):
        raise TypeError(
            "x: expected arrays with values, got traced ones; the assignment runs on "
            "the host: call matched_correlation outside jit and vmap, or use "
            "max_correlation"
        )
    values = np.asarray(values)
    matched = linear_sum_assignment(values, maximize=True)
    value = values[matched].mean() if np.asarray(vary) else np.nan
    return defined("matched_correlation", jnp.asarray(value, values.dtype))


@jax.jit
def _correlations(seen: Seen) -> tuple[Array, Array]:
    """All correlations, and whether any feature of x and any of y varies."""
    moments = moments_of(seen)
    vary = (jnp.trace(moments.xx) > 0) & (jnp.trace(moments.yy) > 0)
    return correlations(moments), vary
