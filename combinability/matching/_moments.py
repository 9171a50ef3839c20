"""Second moments between the units of two networks, in one pass over batches."""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from combinability._checks import named_leaves
from combinability._jaxpr import input_types
from combinability.symmetry._carriers import carriers, observe
from combinability.symmetry._symmetry import Leaf, Symmetry, Trace

# A unit is constant if its deviation is at most so many roundings of its mean.
_ROUNDINGS = 16


class View(NamedTuple):
    """A carrier as samples of units.

    Attributes:
        carrier: its number.
        axes: its pinned axes, which stay in place and have some group within them, then
            those of groups; samples are along the others.
        shape: the sizes of these axes.
        names: what is on them.
        pinned: how many of them are pinned.
    """

    carrier: int
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    names: tuple[str, ...]
    pinned: int

    @property
    def count(self) -> int:
        """The number of units: the product of the sizes of the groups."""
        return math.prod(self.shape[self.pinned :])

    def take(self, value: Array) -> Float[Array, "pinned samples units"]:
        """A carrier's value, real numbers of at least float32."""
        samples = [axis for axis in range(value.ndim) if axis not in self.axes]
        order = (*self.axes[: self.pinned], *samples, *self.axes[self.pinned :])
        value = jnp.transpose(value, order)
        value = value.reshape(math.prod(self.shape[: self.pinned]), -1, self.count)
        if jnp.iscomplexobj(value):
            value = jnp.concatenate([value.real, value.imag], axis=1)
        return value.astype(jnp.promote_types(value.dtype, jnp.float32))


class CrossMoments(NamedTuple):
    """Means and variances of the units of a and of b, and their covariances."""

    mean: Float[Array, "2 pinned units"]
    variance: Float[Array, "2 pinned units"]
    covariance: Float[Array, "pinned units units"]

    def inner(self) -> Float[Array, "pinned units units"]:
        """The mean product of each unit of a and each unit of b."""
        return self.covariance + _outer(self.mean)

    def correlation(self) -> Float[Array, "pinned units units"]:
        """Their correlations; zero where a unit is constant, to rounding."""
        rounding = _ROUNDINGS * jnp.finfo(self.mean.dtype).eps * jnp.abs(self.mean)
        least = jnp.maximum(rounding**2, jnp.finfo(self.mean.dtype).tiny)
        alive = self.variance > least
        scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, self.variance, 1)), 0)
        return self.covariance * _outer(scale)


def views_of(symmetry: Symmetry, max_units: int) -> tuple[View, ...]:
    """The carriers of at most `max_units` units on which no group is twice."""
    views = []
    for number, carrier in enumerate(carriers(symmetry)):
        block = carrier.block
        named = [(label, axis) for axis, label in enumerate(block.labels) if label]
        named.sort(key=lambda one: one[0] in symmetry.groups)  # pinned ones first
        names, axes = zip(*named, strict=True)
        pinned = sum(name not in symmetry.groups for name in names)
        shape = tuple(block.shape[axis] for axis in axes)
        view = View(number, axes, shape, names, pinned)
        if len(set(names)) == len(names) and view.count <= max_units:
            views.append(view)
    return tuple(views)


def each_batch(batches: Any) -> Iterator[tuple[int, Any]]:
    """Number batches of inputs; raises if there are none, or an array is given."""
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches: expected an iterable of inputs, got {type(batches).__name__}; "
            f"pass a single batch x as [x]"
        )
    number = None
    for number, batch in enumerate(batches):
        yield number, batch
    if number is None:
        raise ValueError("batches: expected at least one batch of inputs, got none")


def stream(
    symmetry: Symmetry, views: tuple[View, ...], a: PyTree, b: PyTree, batches
) -> list[CrossMoments]:
    """For each view the moments of two networks' values for the same inputs."""
    moments = []
    for count, batch in each_batch(batches):
        inputs = traced_inputs(symmetry, batch, count)
        more = _batch_moments(symmetry.leaves, symmetry.trace, views, a, b, inputs)
        moments = _merge(moments, more, jnp.asarray(count)) if count else more
    for view, each in zip(views, moments, strict=True):
        finite = jnp.isfinite(each.mean**2 + each.variance).all((1, 2))
        if not finite.all():
            raise ValueError(
                f"{'b' if finite[0] else 'a'}: the activations that carry "
                f"{', '.join(view.names[view.pinned :])}, or their squares, are not "
                "finite; look for NaN in batches, or scale the inputs down"
            )
    return moments


def traced_inputs(symmetry: Symmetry, batch: Any, number: int) -> list[Array]:
    """The arrays of a batch in the dtypes of the traced program."""
    trace, name = symmetry.trace, f"batches[{number}]"
    assert trace is not None  # `views_of` has looked
    types = input_types(trace.program)[len(symmetry.leaves) :]
    given = [jnp.asarray(leaf) for _, leaf in named_leaves(name, batch)]
    if len(given) != len(types):
        raise ValueError(
            f"{name}: expected {len(types)} arrays as in the inference, got "
            f"{len(given)}; leave out what is no input, as labels"
        )
    for number, (value, wanted) in enumerate(zip(given, types, strict=True)):
        if value.shape != wanted.shape:
            raise ValueError(
                f"{name}: expected shape {wanted.shape}, which the symmetry was "
                f"inferred for, got {value.shape} in array {number}; leave out a last "
                "batch that is smaller"
            )
        # All real numbers become floats, integers only other integers.
        kinds = [jnp.integer] if jnp.issubdtype(wanted.dtype, jnp.integer) else []
        if jnp.issubdtype(wanted.dtype, jnp.floating):
            kinds = [jnp.integer, jnp.floating, jnp.bool_]
        converts = any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
        if value.dtype != wanted.dtype and not converts:
            raise TypeError(
                f"{name}: expected {wanted.dtype} as in the inference, got "
                f"{value.dtype} in array {number}"
            )
    pairs = zip(given, types, strict=True)
    return [x if x.dtype == y.dtype else x.astype(y.dtype) for x, y in pairs]


def observed(
    leaves: Sequence[Leaf], trace: Trace, network: PyTree, inputs: Sequence[Array]
) -> list[Array]:
    """The values of the carriers of a network, in the dtypes of the traced program.

    Leaves and trace are those of a symmetry. A compiled program depends on both, and
    symmetries of different functions may be equal, as they compare without the trace.
    """
    given, structure = jax.tree.flatten(network)
    cast = [
        jnp.asarray(value, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else value
        for value, leaf in zip(given, leaves, strict=True)
    ]
    symmetry = Symmetry({}, (), (), tuple(leaves), trace=trace)
    return observe(symmetry, structure.unflatten(cast), *inputs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _batch_moments(leaves, trace, views, a, b, inputs) -> list[CrossMoments]:
    of_a, of_b = (observed(leaves, trace, network, inputs) for network in (a, b))
    return [
        _moments(view.take(of_a[view.carrier]), view.take(of_b[view.carrier]))
        for view in views
    ]


def _moments(
    a: Float[Array, "pinned samples units"], b: Float[Array, "pinned samples units"]
) -> CrossMoments:
    x = jnp.stack([a, b])
    mean = x.mean(axis=2, keepdims=True)
    x = x - mean
    rest = x.mean(axis=2, keepdims=True)  # Corrects the rounding of the first mean.
    x = x - rest
    # In full precision on accelerators too, whose default is lower.
    full = jax.lax.Precision.HIGHEST
    covariance = jnp.einsum("psu,psv->puv", *x, precision=full) / a.shape[1]
    return CrossMoments((mean + rest)[:, :, 0], (x * x).mean(2), covariance)


@functools.partial(jax.jit, donate_argnums=0)
def _merge(
    moments: Sequence[CrossMoments], more: Sequence[CrossMoments], batches: Array
) -> list[CrossMoments]:
    r"""The moments of some batches and of one more, all of equal size.

    With the share s of the new batch and the difference δ of the means,

    .. math::

        \Sigma \leftarrow (1 - s) \Sigma + s \Sigma' + s (1 - s) \delta_a \delta_b^\top

    so that nothing large is subtracted from anything large (Chan, Golub and LeVeque,
    1979).
    """
    merged = []
    for one, new in zip(moments, more, strict=True):
        share = (1 / (batches + 1)).astype(one.mean.dtype)
        delta = new.mean - one.mean

        def mixed(x: Array, y: Array, shift: Array, share: Array = share) -> Array:
            return (1 - share) * x + share * y + share * (1 - share) * shift

        merged.append(
            CrossMoments(
                one.mean + share * delta,
                mixed(one.variance, new.variance, delta**2),
                mixed(one.covariance, new.covariance, _outer(delta)),
            )
        )
    return merged


def _outer(x: Float[Array, "2 pinned units"]) -> Float[Array, "pinned units units"]:
    """The products of the units of a and of b."""
    return x[0, ..., None] * x[1, ..., None, :]
