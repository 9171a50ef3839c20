"""Second moments between the units of two networks, in one pass over batches."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from combinability._checks import named_leaves
from combinability._jaxpr import input_types
from combinability._products import einsum
from combinability.symmetry._carriers import carriers, observe
from combinability.symmetry._symmetry import Block, Leaf, Symmetry, Trace

# A unit is constant if its deviation is at most so many roundings of its mean.
_ROUNDINGS = 16


class View(NamedTuple):
    """A carrier as samples of units: its pinned axes, those of groups, and its block.

    A pinned axis stays in place, and some group lies within it.
    """

    carrier: int
    pinned: tuple[int, ...]
    units: tuple[int, ...]
    block: Block

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the pinned axes and of the groups."""
        return tuple(self.block.shape[axis] for axis in (*self.pinned, *self.units))

    @property
    def count(self) -> int:
        """The number of units: the product of the sizes of the groups."""
        return math.prod(self.block.shape[axis] for axis in self.units)

    def take(self, value: Array) -> Float[Array, "pinned samples units"]:
        """A carrier's value, real numbers of at least float32."""
        kept = (*self.pinned, *self.units)
        samples = [axis for axis in range(value.ndim) if axis not in kept]
        value = jnp.transpose(value, (*self.pinned, *samples, *self.units))
        value = value.reshape(math.prod(self.shape) // self.count, -1, self.count)
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
    """The carriers on which no group is twice and that have at most `max_units` units.

    Raises:
        ValueError: if the symmetry has no trace.
    """
    views = []
    for number, carrier in enumerate(carriers(symmetry)):
        labels = carrier.block.labels
        named = [i for i, label in enumerate(labels) if label]
        units = tuple(i for i in named if labels[i] in symmetry.groups)
        pinned = tuple(i for i in named if i not in units)
        view = View(number, pinned, units, carrier.block)
        if len(named) == len({labels[i] for i in named}) and view.count <= max_units:
            views.append(view)
    return tuple(views)


def stream(
    symmetry: Symmetry,
    views: tuple[View, ...],
    a: PyTree,
    b: PyTree,
    batches: Iterable[Any],
) -> list[CrossMoments]:
    """For each view the moments of two networks' values for the same inputs.

    Raises:
        ValueError: if there is no batch, one has other shapes, or a value is not
            finite.
        TypeError: if `batches` is an array, or inputs are of another kind of number.
    """
    trace = symmetry.trace
    if trace is None:
        raise ValueError("symmetry: expected one from infer_symmetry, got another")
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches: expected an iterable of inputs, got {type(batches).__name__}; "
            f"pass a single batch x as [x]"
        )
    types = input_types(trace.program)[len(symmetry.leaves) :]
    expected = [(each.shape, each.dtype) for each in types]
    moments, count = [], 0
    for batch in batches:
        inputs = _inputs(batch, expected, f"batches[{count}]")
        more = _batch_moments(symmetry.leaves, trace, views, a, b, inputs)
        moments = _merge(moments, more, jnp.asarray(count)) if count else more
        count += 1
    if not count:
        raise ValueError("batches: expected at least one batch of inputs, got none")
    for view, each in zip(views, moments, strict=True):
        finite = jnp.isfinite(each.mean**2 + each.variance).all((1, 2))
        if not finite.all():
            named = ", ".join(view.block.labels[axis] or "" for axis in view.units)
            raise ValueError(
                f"{'b' if finite[0] else 'a'}: the activations that carry {named}, or "
                f"their squares, are not finite; look for NaN in batches, or scale the "
                f"inputs down"
            )
    return moments


def _inputs(batch: Any, expected: Sequence[tuple[Any, Any]], name: str) -> list[Array]:
    """The arrays of a batch in the dtypes of the traced program."""
    given = [leaf for _, leaf in named_leaves(name, batch)]
    if len(given) != len(expected):
        raise ValueError(
            f"{name}: expected {len(expected)} arrays as in the inference, got "
            f"{len(given)}; leave out what is no input, as labels"
        )
    arrays = []
    for number, (value, (shape, dtype)) in enumerate(zip(given, expected, strict=True)):
        value = jnp.asarray(value)
        if value.shape != shape:
            raise ValueError(
                f"{name}: expected shape {shape}, which the symmetry was inferred for, "
                f"got {value.shape} in array {number}; leave out a last batch that is "
                f"smaller"
            )
        if not _converts(value.dtype, dtype):
            raise TypeError(
                f"{name}: expected {dtype} as in the inference, got {value.dtype} in "
                f"array {number}"
            )
        arrays.append(value if value.dtype == dtype else value.astype(dtype))
    return arrays


def _converts(dtype: Any, wanted: Any) -> bool:
    """Whether numbers may be converted: all to floats, integers to integers."""
    kinds = [jnp.integer] if jnp.issubdtype(wanted, jnp.integer) else []
    if jnp.issubdtype(wanted, jnp.floating):
        kinds = [jnp.integer, jnp.floating, jnp.bool_]
    return dtype == wanted or any(jnp.issubdtype(dtype, kind) for kind in kinds)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _batch_moments(
    leaves: tuple[Leaf, ...],
    trace: Trace,
    views: tuple[View, ...],
    a: PyTree,
    b: PyTree,
    inputs: Sequence[Array],
) -> list[CrossMoments]:
    symmetry = Symmetry({}, (), (), leaves, trace=trace)
    values = [observe(symmetry, _as(leaves, network), *inputs) for network in (a, b)]
    return [
        _moments(*(view.take(value[view.carrier]) for value in values))
        for view in views
    ]


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
    x = jnp.stack([a, b])
    mean = x.mean(axis=2, keepdims=True)
    x = x - mean
    rest = x.mean(axis=2, keepdims=True)  # Corrects the rounding of the first mean.
    x = x - rest
    covariance = einsum("psu,psv->puv", *x) / a.shape[1]
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
