"""Correlations, and the root of the inverse of a covariance, safe where it has none."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stitching._moments import Moments

# Relative to the strongest axis, in roundings: what is below is no axis. Rounding was
# seen to leave at most 2.
_RESOLUTION = 32


def varying(
    variances: Float[Array, " p"], means: Float[Array, " p"] | float
) -> Bool[Array, " p"]:
    """The channels that vary by more than the rounding of their mean."""
    rounding = 8 * jnp.finfo(variances.dtype).eps * means
    return variances > rounding**2


def correlations(moments: Moments) -> Float[Array, "p q"]:
    """Those of all channels of x with all of y; 0 for channels that do not vary."""
    scales = []
    for second, mean in (
        (moments.xx, moments.mean_x),
        (moments.yy, moments.mean_y),
    ):
        variances = jnp.diagonal(second)
        varies = varying(variances, mean)
        scales.append(1 / jnp.sqrt(jnp.where(varies, variances, jnp.inf)))
    return (scales[0][:, None] * moments.xy * scales[1]).clip(-1, 1)


def whitening(
    covariance: Float[Array, "p p"],
    varies: Bool[Array, " p"],
    ridge: Float[Array, ""] | float = 0.0,
) -> Float[Array, "p p"]:
    r"""T with :math:`T T^\top = (\Sigma + \lambda 1)^+`.

    The pseudo-inverse is taken of the correlations, so the units of the channels change
    nothing, and channels of small variance are not lost beside those of a large one. An
    axis of the correlations below 32 roundings of the strongest one is no axis: the
    scores x T have variance 1, or their column of T is zero.
    """
    variances = jnp.where(varies, jnp.diagonal(covariance) + ridge, 1)
    deviations = jnp.sqrt(variances)
    both = varies[:, None] & varies
    covariance = covariance + ridge * jnp.eye(len(varies), dtype=covariance.dtype)
    scaled = jnp.where(both, covariance / deviations[:, None] / deviations, 0)
    return jnp.where(varies[:, None], _root(scaled, varies), 0) / deviations[:, None]


def _root(
    matrix: Float[Array, "p p"], varies: Bool[Array, " p"]
) -> Float[Array, "p p"]:
    """T with T Tᵀ the pseudo-inverse of correlations that are 0 where nothing varies.

    By Cholesky, many times faster than eigenvectors, where every axis surely counts:
    the product of the Frobenius norms of a matrix and of its inverse is at least the
    ratio of the strongest axis to the weakest.
    """
    resolution = _RESOLUTION * jnp.finfo(matrix.dtype).eps
    filled = matrix + jnp.diag(~varies).astype(matrix.dtype)
    lower = jnp.linalg.cholesky(filled)  # NaN where it is not positive definite
    root = jax.lax.linalg.triangular_solve(
        lower, jnp.eye(len(matrix), dtype=matrix.dtype), left_side=True, lower=True
    ).T
    inverse = jnp.matmul(root, root.T, precision=jax.lax.Precision.HIGHEST)
    ratio = jnp.linalg.norm(filled) * jnp.linalg.norm(inverse)

    def from_axes():
        values, axes = jnp.linalg.eigh(matrix)
        kept = (values > resolution * values[-1]) & (values > 0)
        return jnp.where(kept, axes / jnp.sqrt(jnp.where(kept, values, 1)), 0)

    return jax.lax.cond(ratio * resolution < 1, lambda: root, from_axes)
