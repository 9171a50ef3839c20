"""One pass over batches of inputs: the values that carry groups, in two networks."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from combinability._jaxpr import input_types
from combinability.matching._cross_moments import (
    CrossMoments,
    View,
    batch_moments,
    merge,
)
from combinability.symmetry._carriers import carriers
from combinability.symmetry._symmetry import Symmetry


def views_of(symmetry: Symmetry, max_units: int) -> tuple[View, ...]:
    """The carriers that can be looked at, each as samples of units.

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
        samples = tuple(i for i in places if not labels[i])
        view = View(number, pinned, units, samples, carrier.block)
        once = len(named) == len(set(named))
        if once and math.prod(view.units_shape) <= max_units:
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
        views: the carriers to look at.
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
