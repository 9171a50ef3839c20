"""Symmetries written by hand, to compare with the inferred ones."""

import jax

from combinability._checks import path_name
from combinability.symmetry._symmetry import (
    Axis,
    Block,
    Group,
    Leaf,
    Symmetry,
)


def by_hand(variables, groups, within=None):
    """The symmetry of groups given as name -> [(path, axis), …], whole axes only.

    `within` names for a nested group the groups that it lies within.
    """
    within = within or {}
    found = jax.tree_util.tree_flatten_with_path(variables)[0]
    leaves = tuple(Leaf(path_name(p), v.shape, v.dtype) for p, v in found)
    at = {(path, axis): name for name, axes in groups.items() for path, axis in axes}
    shapes = {leaf.path: leaf.shape for leaf in leaves}
    sizes = {name: shapes[axes[0][0]][axes[0][1]] for name, axes in groups.items()}
    blocks = []
    for number, leaf in enumerate(leaves):
        labels = tuple(at.get((leaf.path, axis)) for axis in range(len(leaf.shape)))
        if any(labels):
            blocks.append(Block(number, leaf.shape, labels))
    made = {}
    for name, axes in groups.items():
        size, parents = sizes[name], tuple(within.get(name, ()))
        places = tuple(Axis(path, axis, 0, size, (size,), 0) for path, axis in axes)
        made[name] = Group(size, places, parents, tuple(sizes[p] for p in parents))
    return Symmetry(made, (), tuple(blocks), leaves)
