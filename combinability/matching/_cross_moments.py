"""Second moments between the units of two networks, over batches of activations."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from combinability._products import einsum
from combinability.symmetry._carriers import observe
from combinability.symmetry._symmetry import Block, Leaf, Symmetry, Trace

# A unit is constant if its deviation is at most so many roundings of its mean.
_ROUNDINGS = 16


class View(NamedTuple):
    """How a carrier is seen as samples of units.

    Attributes:
        carrier: its position in `carriers(symmetry)`.
        pinned: axes that stay in place, and that some group lies within.
        units: axes that carry groups.
        samples: the other axes.
        block: the carrier's block.
    """

    carrier: int
    pinned: tuple[int, ...]
    units: tuple[int, ...]
    samples: tuple[int, ...]
    block: Block

    @property
    def pinned_shape(self) -> tuple[int, ...]:
        """The sizes of the pinned axes."""
        return tuple(self.block.shape[axis] for axis in self.pinned)

    @property
    def units_shape(self) -> tuple[int, ...]:
        """The sizes of the groups."""
        return tuple(self.block.shape[axis] for axis in self.units)

    def take(self, value: Array) -> Float[Array, "pinned samples units"]:
        """A carrier's value, real numbers of at least float32."""
        order = (*self.pinned, *self.samples, *self.units)
        value = jnp.transpose(value, order)
        shape = math.prod(self.pinned_shape), -1, math.prod(self.units_shape)
        value = value.reshape(shape)
        if jnp.iscomplexobj(value):
            value = jnp.concatenate([value.real, value.imag], axis=1)
        return value.astype(jnp.promote_types(value.dtype, jnp.float32))


class CrossMoments(NamedTuple):
    """What is kept of a carrier's values in two networks, whatever the samples' number.

    Attributes:
        mean_a: the means of the units of a.
        mean_b: those of b.
        variance_a: the variances of the units of a.
        variance_b: those of b.
        covariance: of each unit of a and each unit of b.
    """

    mean_a: Float[Array, "pinned units"]
    mean_b: Float[Array, "pinned units"]
    variance_a: Float[Array, "pinned units"]
    variance_b: Float[Array, "pinned units"]
    covariance: Float[Array, "pinned units units"]

    def inner(self) -> Float[Array, "pinned units units"]:
        """The mean product of each unit of a and each unit of b."""
        return self.covariance + self.mean_a[..., None] * self.mean_b[..., None, :]

    def correlation(self) -> Float[Array, "pinned units units"]:
        """Their correlations; zero where a unit is constant, to rounding."""
        a = _inverse_deviation(self.mean_a, self.variance_a)
        b = _inverse_deviation(self.mean_b, self.variance_b)
        return self.covariance * a[..., None] * b[..., None, :]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def batch_moments(
    leaves: tuple[Leaf, ...],
    trace: Trace,
    views: tuple[View, ...],
    a: PyTree,
    b: PyTree,
    inputs: Sequence[Array],
) -> list[CrossMoments]:
    """The moments of one batch, for each view.

    Args:
        leaves: of the symmetry.
        trace: of the symmetry.
        views: the carriers to look at.
        a: a network.
        b: another one.
        inputs: the arrays of the batch.
    """
    symmetry = Symmetry({}, (), (), leaves, trace=trace)
    values = [observe(symmetry, _as(leaves, network), inputs) for network in (a, b)]
    return [
        _moments(*(view.take(value[view.carrier]) for value in values))
        for view in views
    ]


@functools.partial(jax.jit, donate_argnums=0)
def merge(
    moments: Sequence[CrossMoments], more: Sequence[CrossMoments], batches: Array
) -> list[CrossMoments]:
    r"""The moments of some batches and of one more, all of equal size.

    With the share s of the new batch and the difference δ of the means,

    .. math::

        \Sigma \leftarrow (1 - s) \Sigma + s \Sigma' + s (1 - s) \delta_a \delta_b^\top

    so that nothing large is subtracted from anything large.

    Args:
        moments: of the earlier batches; its memory is used again.
        more: of the new one.
        batches: the number of the earlier batches.

    References:
        Chan, Golub and LeVeque, 1979.
    """
    return [_merged(*pair, batches) for pair in zip(moments, more, strict=True)]


def _as(leaves: Sequence[Leaf], network: PyTree) -> PyTree:
    """A network in the dtypes of the traced program."""
    given, structure = jax.tree.flatten(network)
    cast = [
        jnp.asarray(value, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else value
        for value, leaf in zip(given, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, cast)


def _moments(
    a: Float[Array, "pinned samples units"], b: Float[Array, "pinned samples units"]
) -> CrossMoments:
    (a, mean_a), (b, mean_b) = _centred(a), _centred(b)
    products = einsum("psu,psv->puv", a, b)
    return CrossMoments(
        mean_a, mean_b, (a * a).mean(1), (b * b).mean(1), products / a.shape[1]
    )


def _centred(x: Float[Array, "pinned samples units"]) -> tuple[Array, Array]:
    """Samples without their means, and these.

    The mean of what is left corrects the rounding of the first mean.
    """
    mean = x.mean(axis=1)
    x = x - mean[:, None]
    rest = x.mean(axis=1)
    return x - rest[:, None], mean + rest


def _merged(one: CrossMoments, more: CrossMoments, batches: Array) -> CrossMoments:
    share = (1 / (batches + 1)).astype(one.covariance.dtype)
    delta_a, delta_b = more.mean_a - one.mean_a, more.mean_b - one.mean_b

    def mixed(x, y, shift):
        return (1 - share) * x + share * y + share * (1 - share) * shift

    return CrossMoments(
        one.mean_a + share * delta_a,
        one.mean_b + share * delta_b,
        mixed(one.variance_a, more.variance_a, delta_a**2),
        mixed(one.variance_b, more.variance_b, delta_b**2),
        mixed(
            one.covariance,
            more.covariance,
            delta_a[..., None] * delta_b[..., None, :],
        ),
    )


def _inverse_deviation(mean: Array, variance: Array) -> Array:
    """Zero where the deviation is within the rounding of the mean."""
    rounding = _ROUNDINGS * jnp.finfo(mean.dtype).eps * jnp.abs(mean)
    alive = variance > jnp.maximum(rounding**2, jnp.finfo(mean.dtype).tiny)
    return jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, variance, 1)), 0)
