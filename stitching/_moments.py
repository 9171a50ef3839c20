"""Counts, means and centred second moments of a pair of activations."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._checks import finite, real, sample_weights
from stitching._linear import centre, product, varying


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

    Every leading index is a sample: each position of each image of a map. The means are
    subtracted before the products, so float32 is safe where a mean is thousands of
    times the standard deviation. Runs under `jit` (sharded samples included), `vmap`
    and `shard_map`. An activation with NaN has NaN moments, and so has one whose
    squares are all too small for the dtype.

    Args:
        x: (..., p). Computed in its dtype, at least float32.
        y: (..., q), of the same leading shape; left out, the moments are those of x
            alone, with q = 0.
        weights: at least 0, over the leading axes or the first of them: (images,) or
            (images, height, width) for maps; all 1 by default. A mask leaves samples
            out, whatever they hold.

    Returns:
        The `Moments`; `merge` adds further samples.

    Raises:
        TypeError: if an argument is not an array, or is complex or not numeric.
        ValueError: if there is no sample, shapes do not fit, or a weight that is not
            traced is negative or not finite.

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
    x, mean_x, range_x = centre(x, weights)
    y, mean_y, range_y = centre(y, weights)
    # Large numbers are divided before they are squared, by a power of 2: exactly.
    half = 2.0 ** -((count.bit_length() + 1) // 2)
    unit_x, unit_y = (
        jnp.where(spread.max(initial=0) > 1, jnp.asarray(half, dtype), 1)
        for spread in (range_x, range_y)
    )
    x, y = x * unit_x, y * unit_y
    left_x, left_y, number = x, y, jnp.asarray(count, dtype)
    if weights is not None:
        left_x, left_y, number = x * weights[:, None], y * weights[:, None], 1
    return Moments(
        jnp.asarray(total, dtype),
        mean_x,
        mean_y,
        _none_lost(product(left_x, x) / (number * unit_x**2), range_x),
        product(left_x, y) / (number * unit_x * unit_y),
        _none_lost(product(left_y, y) / (number * unit_y**2), range_y),
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

    Associative and commutative up to rounding, so samples may be seen in any order.

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


def pair_moments(name: str, given: Any) -> Moments:
    """Return moments; raise unless they are of a pair and, if not traced, finite."""
    if not isinstance(given, Moments):
        raise TypeError(
            f"{name}: expected stitching.Moments, got {type(given).__name__}; compute "
            "stitching.moments(x, y) of two activations"
        )
    if 0 in given.xy.shape:
        raise ValueError(
            f"{name}: expected moments of a pair, got those of one activation; compute "
            "stitching.moments(x, y)"
        )
    if any(isinstance(leaf, Tracer) for leaf in given):
        return given
    if not float(given.count) > 0:
        raise ValueError(
            f"{name}: expected at least 1 sample, got {given.count:g}; merge some in"
        )
    if not all(finite(*given)):
        raise ValueError(
            f"{name}: expected finite moments, got NaN or infinity; the activations "
            f"hold NaN or infinity, or their squares do not fit {given.xx.dtype}: "
            "scale them first"
        )
    return given


def correlations(moments: Moments) -> Float[Array, "p q"]:
    """Return those of all channels of x with all of y; 0 where one does not vary."""
    scales = []
    for second, mean in ((moments.xx, moments.mean_x), (moments.yy, moments.mean_y)):
        variances = jnp.diagonal(second)
        varies = varying(variances, mean)
        scales.append(1 / jnp.sqrt(jnp.where(varies, variances, jnp.inf)))
    return (scales[0][:, None] * moments.xy * scales[1]).clip(-1, 1)
