"""The root of the inverse of a covariance, safe where it has none."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stitching._moments import Moments


def whitening(moments: Moments, ridge: Float[Array, ""]) -> Float[Array, "p p"]:
    r"""T with :math:`T T^\top = (\Sigma_{xx} + \lambda 1)^+`, one column an axis.

    The pseudo-inverse is taken in units of each channel's standard deviation, so the
    units of the channels change nothing and channels of small variance are not lost
    beside those of a large one. An axis below 32 roundings of the strongest one (seen:
    rounding leaves at most 2) is no axis: its column is zero.
    """
    varies = varying(moments)
    variances = jnp.where(varies, jnp.diagonal(moments.xx) + ridge, 1)
    deviations = jnp.sqrt(variances)
    both = varies[:, None] & varies
    covariance = moments.xx + ridge * jnp.eye(len(varies), dtype=moments.xx.dtype)
    scaled = jnp.where(both, covariance / deviations[:, None] / deviations, 0)
    values, axes = jnp.linalg.eigh(scaled)
    kept = values > 32 * jnp.finfo(values.dtype).eps * values[-1]
    roots = jnp.sqrt(jnp.where(kept, values, 1))
    return jnp.where(varies[:, None] & kept, axes / roots, 0) / deviations[:, None]


def varying(moments: Moments) -> Bool[Array, " p"]:
    """The channels of x that vary by more than the rounding of their mean."""
    rounding = 8 * jnp.finfo(moments.xx.dtype).eps * moments.mean_x
    return jnp.diagonal(moments.xx) > rounding**2
