"""Second moments between the units of two networks, in one pass over batches."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from combinability._jaxpr import input_types
from combinability._products import einsum
from combinability.symmetry._carriers import carriers, observe
from combinability.symmetry._symmetry import Block, Leaf, Symmetry, Trace

# A unit is constant if its deviation is at most so many roundings of its mean.
_ROUNDINGS = 16


class View(NamedTuple):
    """How a carrier is seen as samples of units.

    Attributes:
        carrier: its position in `carriers(symmetry)`.
        pinned: axes that stay in place, and that some group lies within.
        units: axes that carry groups.
        block: the carrier's block.
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
        pinned = math.prod(self.shape) // self.count
        value = value.reshape(pinned, -1, self.count)
        if jnp.iscomplexobj(value):
            value = jnp.concatenate([value.real, value.imag], axis=1)
        return value.astype(jnp.promote_types(value.dtype, jnp.float32))


class CrossMoments(NamedTuple):
    """Means, variances and covariances of a carrier's values in two networks.

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


def views_of(symmetry: Symmetry, max_units: int) -> tuple[View, ...]:
    """The carriers whose moments can be taken, each as samples of units.

    Args:
        symmetry: one from `infer_symmetry`.
        max_units: the largest number of units of a carrier.

    Returns:
        Those on which no group is twice and that have no more units than that.

    Raises:
        ValueError: if the symmetry has no trace.
    """
    views = []
    for number, carrier in enumerate(carriers(symmetry)):
        labels = carrier.block.labels
        named = [label for label in labels if label]
        places = range(len(labels))
        units = tuple(i for i in places if labels[i] in symmetry.groups)
        pinned = tuple(i for i in places if labels[i] and i not in units)
        view = View(number, pinned, units, carrier.block)
        once = len(named) == len(set(named))
        if once and view.count <= max_units:
            views.append(view)
    return tuple(views)


def stream(
    symmetry: Symmetry,
    views: tuple[View, ...],
    a: PyTree,
    b: PyTree,
    batches: Iterable[Any],
) -> list[CrossMoments]:
    """The moments of the values that two networks have for the same inputs.

    Args:
        symmetry: one from `infer_symmetry`.
        views: the carriers to observe.
        a: a network.
        b: another one.
        batches: inputs, each a tree of arrays.

    Returns:
        For each view its moments over all batches.

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
            f"batches: expected an iterable of inputs, got {type(batches).__name__}; a "
            f"single batch x is given as [x]"
        )
    types = input_types(trace.program)[len(symmetry.leaves) :]
    expected = [(each.shape, each.dtype) for each in types]
    moments, count = [], 0
    for batch in batches:
        inputs = _inputs(batch, expected, f"batches[{count}]")
        more = batch_moments(symmetry.leaves, trace, views, a, b, inputs)
        moments = merge(moments, more, jnp.asarray(count)) if count else more
        count += 1
    if not count:
        raise ValueError("batches: expected at least one batch of inputs, got none")
    for view, each in zip(views, moments, strict=True):
        _check_finite(view, each)
    return moments


def _inputs(batch: Any, expected: Sequence[tuple[Any, Any]], name: str) -> list[Array]:
    """The arrays of a batch in the dtypes of the traced program."""
    given = jax.tree.leaves(batch)
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
        if not _holds(value.dtype, dtype):
            raise TypeError(
                f"{name}: expected {dtype} as in the inference, got {value.dtype} in "
                f"array {number}"
            )
        arrays.append(value if value.dtype == dtype else value.astype(dtype))
    return arrays


def _holds(dtype: Any, wanted: Any) -> bool:
    """Whether numbers may be converted: to floats all, to integers integers."""
    if dtype == wanted:
        return True
    kinds = [jnp.integer] if jnp.issubdtype(wanted, jnp.integer) else []
    if jnp.issubdtype(wanted, jnp.floating):
        kinds = [jnp.integer, jnp.floating, jnp.bool_]
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def _check_finite(view: View, moments: CrossMoments) -> None:
    named = ", ".join(view.block.labels[axis] or "" for axis in view.units)
    squares = {
        "a": moments.mean_a**2 + moments.variance_a,
        "b": moments.mean_b**2 + moments.variance_b,
    }
    for name, values in squares.items():
        if not jnp.isfinite(values).all():
            raise ValueError(
                f"{name}: the activations that carry {named}, or their squares, are "
                f"not finite; look for NaN in batches, or scale the inputs down"
            )


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
        views: the carriers to observe.
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
        moments: of the earlier batches; their memory is reused.
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
