"""Stitches that take their steps together: one alone, or several side by side."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray, PyTree

from stitching.training._program import (
    Data,
    Run,
    looped,
    mapped,
    scanned,
    start,
    vmapped,
)
from stitching.training._task import Given, Strategy, Task


class Group(NamedTuple):
    """One stitch, or a stack of them.

    Attributes:
        size: how many they are.
        run: what they carry.
        data: what they do not change.
        key: of the order of minibatches; stacked if they differ in it.
        axes: of a stack, 0 for each field of the data, and then for the key, in which
            they differ, and None where they share; None for one alone.
    """

    size: int
    run: Run
    data: Data
    key: PRNGKeyArray
    axes: tuple[int | None, ...] | None


def alone(task: Task, given: Given, data: Data) -> Group:
    """One stitch before its first step."""
    params = given.initial["params"]
    run = start(task.program, params, data, task.steps)
    return Group(1, run, data, order_key(given), None)


def side_by_side(task: Task, givens: Sequence[Given], data: Sequence[Data]) -> Group:
    """Several stitches before their first step, whose trees have the same shapes."""
    ones = [alone(task, *each) for each in zip(givens, data, strict=True)]
    fields = [*zip(*data, strict=True), [one.key for one in ones]]
    # The layer's own collections are stacked always, as its parameters are.
    axes = (0, *(None if _shared(field) else 0 for field in fields[1:]))
    joined = [
        field[0] if axis is None else _stack(field)
        for field, axis in zip(fields, axes, strict=True)
    ]
    runs = _stack([one.run for one in ones])
    if task.devices is not None:
        runs, *joined = _spread(task.devices, (0, *axes), [runs, *joined])
    return Group(len(ones), runs, Data(*joined[:-1]), joined[-1], axes)


def _spread(
    devices: Sequence[Any], axes: Sequence[int | None], trees: Sequence[PyTree]
) -> list[PyTree]:
    """Stacks with an equal part on each device, and what is shared on all of them."""
    mesh = Mesh(np.array(devices), ("stitches",))
    specs = {0: PartitionSpec("stitches"), None: PartitionSpec()}
    return [
        jax.device_put(tree, NamedSharding(mesh, specs[axis]))
        for axis, tree in zip(axes, trees, strict=True)
    ]


def apart(group: Group) -> list[Run]:
    """The runs of a group, each by itself."""
    if group.axes is None:
        return [group.run]
    return [at(group.run, index) for index in range(group.size)]


def at(tree: PyTree, index: int) -> PyTree:
    """One of a stack of trees."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def advancing(task: Task, strategy: Strategy, group: Group) -> Callable[..., Run]:
    """A function of (run, data, rows, first, begin, end) that takes a group's steps."""
    program: Any = task.program
    if group.axes is not None:
        return lambda *given: vmapped(program, group.axes, *given)
    loop = looped if strategy == "loop" else scanned
    return lambda *given: loop(program, *given)


def maps(task: Task, group: Group) -> PyTree:
    """The maps of a group as they are, with a leading axis of stitches."""
    stacked = group.axes is not None
    found = mapped(task.program, group.run.params, group.data.fixed, stacked)
    return found if stacked else jax.tree.map(lambda leaf: leaf[None], found)


def stackable(givens: Sequence[Given]) -> bool:
    """Whether all trees have the same structures, shapes and dtypes."""
    return len({signature(given) for given in givens}) == 1


def order_key(given: Given) -> PRNGKeyArray:
    """The key of the order of minibatches."""
    return jax.random.fold_in(given.key, 1)


def signature(tree: PyTree) -> tuple[Any, ...]:
    """Structure, shapes and dtypes of a tree, to compare."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, *((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


def _shared(trees: Sequence[PyTree]) -> bool:
    """Whether all trees have the very same leaves."""
    leaves = zip(*map(jax.tree.leaves, trees), strict=True)
    return all(leaf is first for first, *others in leaves for leaf in others)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
