"""The best rotation or reflection of channels: Procrustes."""

import jax.numpy as jnp

from stitching._moments import Moments
from stitching.direct._checks import pair_moments
from stitching.direct._fit import Fit, times, with_means


def orthogonal(moments: Moments, scale: bool = False) -> Fit:
    r"""The orthogonal map of least squared error, times a number on request.

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
