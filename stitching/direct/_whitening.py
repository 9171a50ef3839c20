"""The root of the inverse of a covariance, safe where it has none."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stitching._moments import Moments

# Relative to the strongest axis, in roundings: what is below is no axis. Rounding was
# seen to leave at most 2.
_RESOLUTION = 32


def whitening(moments: Moments, ridge: Float[Array, ""]) -> Float[Array, "p p"]:
    r"""T with :math:`T T^\top = (\Sigma_{xx} + \lambda 1)^+`.

    The pseudo-inverse is taken in units of each channel's standard deviation, so the
    units of the channels change nothing and channels of small variance are not lost
    beside those of a large one. An axis below 32 roundings of the strongest one is no
    axis.
    """
    varies = varying(moments)
    variances = jnp.where(varies, jnp.diagonal(moments.xx) + ridge, 1)
    deviations = jnp.sqrt(variances)
    both = varies[:, None] & varies
    covariance = moments.xx + ridge * jnp.eye(len(varies), dtype=moments.xx.dtype)
    scaled = jnp.where(both, covariance / deviations[:, None] / deviations, 0)
    root = _root(scaled + jnp.diag(~varies).astype(scaled.dtype))
    return jnp.where(varies[:, None], root, 0) / deviations[:, None]


def varying(moments: Moments) -> Bool[Array, " p"]:
    """The channels of x that vary by more than the rounding of their mean."""
    rounding = 8 * jnp.finfo(moments.xx.dtype).eps * moments.mean_x
    return jnp.diagonal(moments.xx) > rounding**2


def _root(matrix: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """T with T Tᵀ the pseudo-inverse of a symmetric, positive semidefinite matrix.

    By Cholesky, many times faster than eigenvectors, where every axis surely counts:
    the product of the Frobenius norms of a matrix and of its inverse is at least the
    ratio of the strongest axis to the weakest.
    """
    resolution = _RESOLUTION * jnp.finfo(matrix.dtype).eps
    lower = jnp.linalg.cholesky(matrix)  # NaN where the matrix is not positive definite
    root = jax.lax.linalg.triangular_solve(
        lower, jnp.eye(len(matrix), dtype=matrix.dtype), left_side=True, lower=True
    ).T
    inverse = jnp.matmul(root, root.T, precision=jax.lax.Precision.HIGHEST)
    ratio = jnp.linalg.norm(matrix) * jnp.linalg.norm(inverse)

    def from_axes():
        values, axes = jnp.linalg.eigh(matrix)
        kept = values > resolution * values[-1]
        return jnp.where(kept, axes / jnp.sqrt(jnp.where(kept, values, 1)), 0)

    return jax.lax.cond(ratio * resolution < 1, lambda: root, from_axes)
