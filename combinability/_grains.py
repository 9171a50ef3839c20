"""Granularity: which parameters of a network share one coefficient."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from combinability._combine import dtype_of, is_combined
from combinability.symmetry._indexing import along
from combinability.symmetry._symmetry import Block, Symmetry

Granularity = Literal["element", "neuron", "tensor", "module", "model"]
GRANULARITIES: tuple[str, ...] = get_args(Granularity)


class Grains(NamedTuple):
    """The independent coefficients of a network, and how they become a tree.

    Attributes:
        shapes: number of a draw -> its shape, in the order of drawing.
        place: draws -> a tree like the network whose leaves broadcast to its own.
    """

    shapes: dict[int, tuple[int, ...]]
    place: Callable[[Mapping[int, Float[Array, "..."]]], PyTree]


def grains(granularity: str, symmetry: Symmetry | None, variables: PyTree) -> Grains:
    """The draws that a network needs at a granularity."""
    if granularity == "neuron":
        assert symmetry is not None
        return _by_neuron(symmetry, variables)
    return _by_leaf(granularity, variables)


def coefficient_dtype(variables: PyTree) -> Any:
    """The real dtype of the widest leaf, float32 at least."""
    dtypes = [dtype_of(x) for x in jax.tree.leaves(variables) if is_combined(x)]
    real = [jnp.finfo(dtype).dtype for dtype in dtypes]
    return jax.dtypes.canonicalize_dtype(np.result_type(np.float32, *real))


def _by_leaf(granularity: str, variables: PyTree) -> Grains:
    """One draw per element, leaf, module or model."""
    found = jax.tree_util.tree_flatten_with_path(variables)[0]
    owners = _owners(granularity, [path for path, _ in found], variables)
    combined = [is_combined(leaf) for _, leaf in found]
    shapes = {
        owner: np.shape(leaf) if granularity == "element" else ()
        for owner, use, (_, leaf) in zip(owners, combined, found, strict=True)
        if use
    }

    def place(draws):
        leaves = [
            draws[owner] if use else _kept(draws)
            for owner, use in zip(owners, combined, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(variables), leaves)

    return Grains(shapes, place)


def _owners(granularity: str, paths: Sequence[tuple], variables: PyTree) -> list[int]:
    """For each leaf the position of the first one that it shares a draw with."""
    if granularity == "model":
        return [0] * len(paths)
    if granularity != "module":
        return list(range(len(paths)))
    # A Flax module's parameters and statistics lie in different collections.
    collections = isinstance(variables, Mapping) and "params" in variables
    first: dict[tuple, int] = {}
    modules = [path[1:-1] if collections else path[:-1] for path in paths]
    return [first.setdefault(module, i) for i, module in enumerate(modules)]


def _by_neuron(symmetry: Symmetry, variables: PyTree) -> Grains:
    """One draw per unit of a group, and one per leaf without groups.

    Draw i < n belongs to leaf i of n, draw n + g to group g.
    """
    leaves = symmetry.check(variables, "variables")
    combined = [is_combined(leaf) for leaf in leaves]
    number = {name: len(leaves) + g for g, name in enumerate(symmetry.groups)}
    axes = [_unit_axis(symmetry, block) for block in symmetry.blocks]
    shapes: dict[int, tuple[int, ...]] = {
        i: () for i, use in enumerate(combined) if use
    }
    for block, axis in zip(symmetry.blocks, axes, strict=True):
        if axis is not None and combined[block.leaf]:
            name = block.labels[axis] or ""
            group = symmetry.groups[name]
            shapes[number[name]] = (*group.blocks, group.size)

    def place(draws):
        whole = jax.tree.unflatten(
            jax.tree.structure(variables),
            [
                jnp.broadcast_to(draws[i] if use else _kept(draws), jnp.shape(leaf))
                for i, (use, leaf) in enumerate(zip(combined, leaves, strict=True))
            ],
        )
        parts = symmetry.split(whole)
        for k, (block, axis) in enumerate(zip(symmetry.blocks, axes, strict=True)):
            if axis is not None and combined[block.leaf]:
                draw = draws[number[block.labels[axis] or ""]]
                parts[k] = _along(symmetry, block, axis, draw)
        return symmetry.join(parts, whole)

    return Grains(shapes, place)


def _unit_axis(symmetry: Symmetry, block: Block) -> int | None:
    """The last axis of a block that carries a group, usually the output axis."""
    axes = [i for i, label in enumerate(block.labels) if label in symmetry.groups]
    return axes[-1] if axes else None


def _along(symmetry: Symmetry, block: Block, axis: int, draw: Array) -> Array:
    """A group's draw, of shape (*blocks, size), spread over a block."""
    within = symmetry.groups[block.labels[axis] or ""].within
    axes = [*map(block.labels.index, within), axis]
    return jnp.broadcast_to(along(draw, axes, len(block.shape)), block.shape)


def _kept(draws: Mapping[int, Array]) -> Array:
    """The coefficient of what is not combined: 0, that is a's value."""
    dtype = next(iter(draws.values())).dtype if draws else jnp.float32
    return jnp.zeros((), dtype)
