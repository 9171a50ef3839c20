"""Which leaves share a law."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import optax
from jaxtyping import PyTree

# None: one law for all parameters. "leaf": one a leaf. Labels, or a function from the
# parameters to labels, as in optax.partition: one law a label.
Groups = None | Literal["leaf"] | PyTree | Callable[[optax.Params], PyTree]


def leaf_groups(groups: Groups, tree: Any) -> tuple[tuple[int, ...], int]:
    """The group of every leaf of a tree, and the number of groups.

    Labels are numbered in sorted order, so that row i of the laws belongs to the i-th
    label.

    Raises:
        ValueError: if the labels do not cover the tree.
    """
    leaves = len(jax.tree.leaves(tree))
    if groups is None:
        return (0,) * leaves, 1
    if isinstance(groups, str) and groups == "leaf":
        return tuple(range(leaves)), leaves
    if leaves == 0:
        return (), 0
    labels = groups(tree) if callable(groups) else groups
    try:
        labels = jax.tree.leaves(jax.tree.broadcast(labels, tree))
    except ValueError as error:
        raise ValueError(
            "groups: expected None, 'leaf', or labels whose structure is the "
            f"parameters' or a prefix of it, as in optax.partition; {error}"
        ) from error
    names = sorted(set(labels), key=str)
    return tuple(names.index(label) for label in labels), len(names)
