"""Counts, means and centred second moments of a pair of activations."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float


class Moments(NamedTuple):
    """Sufficient statistics of a pair of activations for every linear measure and fit.

    A tree of arrays whose size does not depend on the number of samples. One of zeros
    is the neutral element of `merge`, so a `lax.scan` may start from it.

    Attributes:
        count: the number of samples, or the sum of their weights. A float, exact to
            2²⁴ in float32.
        mean_x: means of the channels of x.
        mean_y: means of the channels of y.
        xx: (x − mean_x)ᵀ(x − mean_x) / count.
        xy: (x − mean_x)ᵀ(y − mean_y) / count.
        yy: (y − mean_y)ᵀ(y − mean_y) / count.
    """

    count: Float[Array, ""]
    mean_x: Float[Array, " p"]
    mean_y: Float[Array, " q"]
    xx: Float[Array, "p p"]
    xy: Float[Array, "p q"]
    yy: Float[Array, "q q"]


def moments(
    x: Float[ArrayLike, "*samples p"],
    y: Float[ArrayLike, "*samples q"] | None = None,
    *,
    weights: Float[ArrayLike, "*leading"] | None = None,
) -> Moments:
    r"""Return the moments of a pair of activations, channels last.

    .. math::

        \mu_x = \tfrac1n \sum_i w_i x_i, \qquad
        \Sigma_{xy} = \tfrac1n \sum_i w_i (x_i - \mu_x)(y_i - \mu_y)^\top, \qquad
        n = \sum_i w_i

    Every leading index is a sample: of a (images, height, width, channels) activation
    each position of each image. The means are subtracted before the products and
    corrected once, so float32 is safe where a mean is thousands of times the standard
    deviation; products are never computed in a lower precision. A pure function: it
    runs under `jit` (sharded samples included), `vmap` and `shard_map`. It does not
    look for NaN: an activation with NaN has NaN moments, and so has one whose squares
    are all too small for the dtype (deviations below 3 · 10⁻¹⁶ in float32).

    Args:
        x: (..., p). Computed in its dtype, at least float32.
        y: (..., q), of the same leading shape; left out, the moments are those of x
            alone, with q = 0.
        weights: at least 0, over the leading axes or the first of them: (images,) or
            (images, height, width) for maps, (sequences, tokens) for tokens. A mask of
            booleans or of 0 and 1 leaves samples out, whatever they hold. All are 1 by
            default.

    Returns:
        The `Moments`; `merge` adds further samples.

    Raises:
        TypeError: if an argument is no array, or one that is complex or not numeric.
        ValueError: if an array has no sample axis or no sample, or the leading shapes
            differ; if a weight is negative or not finite (traced ones are not checked).

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[1.0, 2.0], [3.0, 2.0]])
        >>> seen = stitching.moments(x, 10 * x)
        >>> seen.mean_x.tolist(), seen.xy.tolist()
        ([2.0, 2.0], [[10.0, 0.0], [0.0, 0.0]])
    """
    x = real("x", x)
    y = jnp.zeros((*x.shape[:-1], 0), x.dtype) if y is None else real("y", y)
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(
            f"x and y: expected shape (samples, channels) with any number of leading "
            f"axes, got {x.shape} and {y.shape}; one sample is x[None]"
        )
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(
            f"x and y: expected the same samples, that is equal leading shapes, got "
            f"{x.shape} and {y.shape}"
        )
    if 0 in x.shape[:-1]:
        raise ValueError("x: expected at least 1 sample, got 0")
    if weights is not None:
        weights = sample_weights(weights, x.shape[:-1])
    return _moments(x, y, weights)


def sample_weights(weights: Any, samples: tuple[int, ...]) -> Array:
    """Weights for all samples, at least 0, from those of the first sample axes.

    Raises:
        TypeError: if they are no array of real numbers or booleans.
        ValueError: if the shape does not fit, or one is negative or not finite.
    """
    if jnp.result_type(getattr(weights, "dtype", float)) == jnp.bool_:
        weights = jnp.asarray(weights, jnp.float32)
    weights = real("weights", weights)
    axes = weights.ndim
    if axes == 0 or weights.shape != samples[:axes]:
        raise ValueError(
            f"weights: expected one per sample, of shape {samples} or that of its "
            f"first axes, got {weights.shape}"
        )
    if not isinstance(weights, Tracer) and not (
        np.isfinite(weights).all() and np.greater_equal(weights, 0).all()
    ):
        raise ValueError("weights: expected finite numbers, at least 0")
    weights = weights.reshape(weights.shape + (1,) * (len(samples) - axes))
    return jnp.broadcast_to(weights, samples)


@jax.jit
def _moments(x: Array, y: Array, weights: Array | None) -> Moments:
    dtype = jnp.promote_types(x.dtype, y.dtype)
    count = math.prod(x.shape[:-1])
    x = x.reshape(count, x.shape[-1]).astype(dtype)
    y = y.reshape(count, y.shape[-1]).astype(dtype)
    total: Array | int = count
    if weights is not None:
        weights = weights.reshape(count).astype(dtype)
        total = weights.sum()
        weights = weights / jnp.where(total > 0, total, 1)
    x, mean_x, spread_x = _centred(x, weights)
    y, mean_y, spread_y = _centred(y, weights)
    # Large numbers are divided before they are squared, by a power of 2: exactly.
    half = 2.0 ** -((count.bit_length() + 1) // 2)
    unit_x, unit_y = (
        jnp.where(spread.max(initial=0) > 1, jnp.asarray(half, dtype), 1)
        for spread in (spread_x, spread_y)
    )
    x, y = x * unit_x, y * unit_y
    left_x, left_y, number = x, y, jnp.asarray(count, dtype)
    if weights is not None:
        left_x, left_y, number = x * weights[:, None], y * weights[:, None], 1
    return Moments(
        jnp.asarray(total, dtype),
        mean_x,
        mean_y,
        _none_lost(product(left_x, x) / (number * unit_x**2), spread_x),
        product(left_x, y) / (number * unit_x * unit_y),
        _none_lost(product(left_y, y) / (number * unit_y**2), spread_y),
    )


def _none_lost(second: Array, spread: Array) -> Array:
    """NaN in place of variances that are all too small for the dtype, but not zero."""
    highest = jnp.diagonal(second).max(initial=0)
    limits = jnp.finfo(second.dtype)
    lost = (highest < limits.tiny / limits.eps) & (spread > 0).any()
    return jnp.where(lost, jnp.nan, second)


def merge(moments: Moments, more: Moments) -> Moments:
    r"""Return the moments of two sets of samples together.

    With the share :math:`s = m / (n + m)` of the second and the difference
    :math:`\delta` of the means,

    .. math::

        \mu \leftarrow \mu + s\,\delta_x, \qquad
        \Sigma_{xy} \leftarrow (1-s)\,\Sigma_{xy} + s\,\Sigma'_{xy}
            + s(1-s)\,\delta_x \delta_y^\top

    Associative and commutative up to rounding, so samples may be seen in any order, in
    batches of any sizes, and on any number of devices. No large numbers are subtracted
    from each other.

    Args:
        moments: of n samples; 0 where all its arrays are zeros.
        more: of m other samples of the same channels.

    Returns:
        The `Moments` of all n + m samples.

    Raises:
        TypeError: if one is not `Moments`.
        ValueError: if the numbers of channels differ.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.arange(8.0).reshape(4, 2)
        >>> halves = stitching.merge(stitching.moments(x[:1]), stitching.moments(x[1:]))
        >>> halves.mean_x.tolist(), halves.xx.tolist()
        ([3.0, 4.0], [[5.0, 5.0], [5.0, 5.0]])

    References:
        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
        computing sample variances", 1979.
    """
    for name, each in (("moments", moments), ("more", more)):
        if not isinstance(each, Moments):
            raise TypeError(
                f"{name}: expected stitching.Moments, got {type(each).__name__}"
            )
    if moments.xy.shape != more.xy.shape:
        raise ValueError(
            f"more: expected moments of {moments.xy.shape} channels (x, y), got "
            f"{more.xy.shape}"
        )
    return _merged(moments, more)


@jax.jit
def _merged(moments: Moments, more: Moments) -> Moments:
    count = moments.count + more.count
    share = more.count / jnp.where(count > 0, count, 1)
    delta_x = more.mean_x - moments.mean_x
    delta_y = more.mean_y - moments.mean_y

    def joined(one, other, left, right):
        between = share * (1 - share) * jnp.outer(left, right)
        return (1 - share) * one + share * other + between

    return Moments(
        count,
        moments.mean_x + share * delta_x,
        moments.mean_y + share * delta_y,
        joined(moments.xx, more.xx, delta_x, delta_x),
        joined(moments.xy, more.xy, delta_x, delta_y),
        joined(moments.yy, more.yy, delta_y, delta_y),
    )


def real(name: str, array: ArrayLike) -> Array:
    """An array of real numbers, at least in float32.

    Raises:
        TypeError: if it is a container of arrays, complex or not numeric.
    """
    one_array(name, array)
    known = isinstance(array, jax.Array | np.ndarray | np.generic)
    dtype = array.dtype if known else np.asarray(array).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(
            f"{name}: expected real numbers, got dtype {dtype}; take the real part or "
            f"another view of it first"
        )
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def one_array(name: str, array: Any) -> None:
    """Raises a TypeError for None and for containers of arrays."""
    if array is None or isinstance(array, tuple | list | Mapping):
        raise TypeError(
            f"{name}: expected one array, got {type(array).__name__}; where there are "
            "several arrays, pick one"
        )


def centre(
    x: Float[Array, "n p"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, "n p"], Float[Array, " p"]]:
    """A matrix without its column means, and these.

    The mean of what is left after a first mean is subtracted corrects the rounding of
    that one. A column whose entries are all equal becomes exactly zero. With weights,
    whose sum is 1 or 0, rows of weight 0 become zero.
    """
    x, mean, _ = _centred(x, weights)
    return x, mean


def _centred(x: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """As `centre`, with the difference of the largest and the least of each column."""
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


def product(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, "p q"]:
    """xᵀy in full precision, on accelerators too, wherever the samples lie."""
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


def finite(*arrays: Array) -> list[bool]:
    """Which arrays are traced, or have no NaN and no infinity; by one program."""
    known = [None if isinstance(array, Tracer) else array for array in arrays]
    # One that is known may meet others that are traced.
    with jax.ensure_compile_time_eval():
        return [found is None or bool(found) for found in _finite(known)]


@jax.jit
def _finite(arrays: list[Array | None]) -> list[Array | None]:
    return jax.tree.map(lambda array: jnp.isfinite(array).all(), arrays)
