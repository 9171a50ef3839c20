"""Linear algebra in full precision, safe where an activation does not vary."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

# Axes weaker than this many roundings of the strongest one are taken for rounding, of
# which the largest that was seen was 2.
_RESOLUTION = 32


def times(a: Array, b: Array) -> Array:
    """Return a matrix product in full precision, on accelerators too."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def square_root(x: Array) -> Array:
    """Return √x, with a gradient of 0 where x is 0."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def product(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, "p q"]:
    """Return xᵀy in full precision, wherever the samples lie."""
    return jax.lax.dot_general(
        x,
        y,
        (((0,), (0,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        out_sharding=_summed_over_devices(x, y),
    )


def _summed_over_devices(x: Array, y: Array) -> NamedSharding | None:
    """The sharding of xᵀy, which JAX asks for where samples are sharded explicitly."""
    left, right = jax.typeof(x).sharding, jax.typeof(y).sharding
    for sharding in (left, right):
        if not sharding.mesh.empty and sharding.spec[0] is not None:
            spec = PartitionSpec(left.spec[1], right.spec[1])
            return NamedSharding(sharding.mesh, spec)
    return None


def centre(
    x: Float[Array, "n p"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, "n p"], Float[Array, " p"], Float[Array, " p"]]:
    """Return a matrix without its column means, these, and the range of each column.

    The mean of what is left after a first mean is subtracted corrects the rounding of
    that one. A column whose entries are all equal becomes exactly zero. With weights,
    whose sum is 1 or 0, rows of weight 0 become zero.
    """
    if weights is None:
        lowest, highest, seen = x.min(axis=0), x.max(axis=0), True
    else:
        seen = (weights > 0)[:, None]
        lowest = jnp.where(seen, x, jnp.inf).min(axis=0)
        highest = jnp.where(seen, x, -jnp.inf).max(axis=0)
        lowest = jnp.where(lowest <= highest, lowest, 0)
        x = jnp.where(seen, x, lowest)
    varies = lowest != highest

    def mean(x):
        return x.mean(axis=0) if weights is None else (weights[:, None] * x).sum(axis=0)

    shift = jnp.where(varies, mean(x), lowest)
    x = x - shift
    rest = jnp.where(varies, mean(x), 0)
    x = x - rest if weights is None else jnp.where(seen, x - rest, 0)
    return x, shift + rest, jnp.where(varies, highest - lowest, 0)


def varying(
    variances: Float[Array, " p"], means: Float[Array, " p"] | float
) -> Bool[Array, " p"]:
    """Return which channels vary by more than the rounding of their mean."""
    rounding = 8 * jnp.finfo(variances.dtype).eps * means
    return variances > rounding**2


@jax.custom_jvp
def svd(
    matrix: Float[Array, "n p"],
) -> tuple[Float[Array, "n r"], Float[Array, " r"], Float[Array, "r p"]]:
    """Return the thin singular value decomposition of a matrix of any rank.

    Unlike that of JAX it has finite derivatives where singular values are 0 or equal:
    axes of equal values do not turn into one another. So they are right for functions
    of the spaces that such axes span.
    """
    return tuple(jnp.linalg.svd(matrix, full_matrices=False))


@svd.defjvp
def _svd_jvp(primals, tangents):
    (matrix,), (change,) = primals, tangents
    left, values, right = svd(matrix)
    along = times(left.T, times(change, right.T))
    both = (along * values, values[:, None] * along)
    # One over the differences of the squares.
    turn = inverse(values + values[:, None], values[0])
    turn = turn * inverse(values - values[:, None], values[0])
    new_left, new_right = (turn * (each + each.T) for each in both)
    new_left, new_right = times(left, new_left), times(right.T, new_right)
    # The part outside the span of the axes, where they do not span everything.
    stretch = inverse(values, values[0])
    if matrix.shape[0] > len(values):
        out = times(change, right.T)
        new_left += (out - times(left, along)) * stretch
    if matrix.shape[1] > len(values):
        out = times(change.T, left)
        new_right += (out - times(right.T, along.T)) * stretch
    return (left, values, right), (new_left, jnp.diagonal(along), new_right.T)


def inverse(x: Array, largest: Array) -> Array:
    """Return 1/x; 0 where x is rounding beside the largest."""
    found = jnp.abs(x) > _RESOLUTION * jnp.finfo(x.dtype).eps * largest
    return jnp.where(found, 1 / jnp.where(found, x, 1), 0)


def whitening(
    covariance: Float[Array, "p p"],
    varies: Bool[Array, " p"],
    ridge: Float[Array, ""] | float = 0.0,
) -> Float[Array, "p p"]:
    r"""Return T with :math:`T T^\top = (\Sigma + \lambda 1)^+`.

    The pseudo-inverse is taken of the correlations, so the units of the channels change
    nothing, and channels of small variance are not lost next to those of a large one.
    An axis of the correlations below 32 roundings of the strongest one does not count:
    the scores x T have variance 1, or their column of T is zero.
    """
    variances = jnp.where(varies, jnp.diagonal(covariance) + ridge, 1)
    deviations = jnp.sqrt(variances)
    both = varies[:, None] & varies
    covariance = covariance + ridge * jnp.eye(len(varies), dtype=covariance.dtype)
    scaled = jnp.where(both, covariance / deviations[:, None] / deviations, 0)
    return jnp.where(varies[:, None], _root(scaled, varies), 0) / deviations[:, None]


@jax.custom_jvp
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
    ratio = jnp.linalg.norm(filled) * jnp.linalg.norm(times(root, root.T))

    def from_axes():
        values, axes = jnp.linalg.eigh(matrix)
        kept = (values > resolution * values[-1]) & (values > 0)
        return jnp.where(kept, axes / jnp.sqrt(jnp.where(kept, values, 1)), 0)

    return jax.lax.cond(ratio * resolution < 1, lambda: root, from_axes)


@_root.defjvp
def _root_jvp(primals, tangents):
    """Derivative of one choice of T, known up to a rotation, at constant rank."""
    root, change = _root(*primals), tangents[0]
    turned = times(change, root)
    inside = times(root, times(root.T, turned))
    outside = times(change, times(root, times(root.T, root)))
    outside -= times(primals[0], times(root, times(root.T, outside)))
    return root, outside - inside / 2
