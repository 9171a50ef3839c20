"""Apply index arrays along axes of arrays: NumPy and JAX alike, traced or not.

The index array of a group has shape (*blocks, size): one row for each unit of the
groups that it lies within, its parents.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def along(values: Any, axes: Sequence[int], ndim: int) -> Any:
    """Reshape an array so that its axes become the given ones of `ndim` axes."""
    shape = [1] * ndim
    for axis, size in zip(axes, values.shape, strict=True):
        shape[axis] = size
    order = sorted(range(len(axes)), key=axes.__getitem__)
    return values.transpose(order).reshape(shape)


def take(array: Any, index: Any, axes: Sequence[int]) -> Any:
    """Permute the last of some axes of an array.

    Args:
        array: any array.
        index: the index array of a group, (*blocks, size).
        axes: the axes of the array that carry the parents and, last, the group.
    """
    xp = np if isinstance(array, np.ndarray) else jnp
    if len(axes) == 1:
        return xp.take(array, index, axis=axes[0])
    return xp.take_along_axis(array, along(index, axes, array.ndim), axis=axes[-1])


def places(blocks: Sequence[int]) -> tuple[np.ndarray, ...]:
    """The positions of the units of each parent, to broadcast against (*blocks, 1)."""
    return tuple(np.indices((*blocks, 1), sparse=True)[:-1])


def at_parents(
    groups: Mapping[str, Any], values: Mapping[str, Any], name: str
) -> list[Any]:
    """What the units of a group inherit from the units that they lie within.

    Args:
        groups: name -> `Group`.
        values: for each parent an array over its units, (*blocks, size).
        name: the group.

    Returns:
        For each parent its values, to broadcast against (*blocks, 1) of the group; for
        a pinned parent the positions of its units.
    """
    within = groups[name].within
    at = dict(zip(within, places(groups[name].blocks), strict=True))
    return [
        values[parent][(*(at[outer] for outer in groups[parent].within), at[parent])]
        if parent in groups
        else at[parent]
        for parent in within
    ]
