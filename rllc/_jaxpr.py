"""What depends on how JAX types and compiles values."""

from collections.abc import Hashable
from typing import Any

import jax


def varying_axes(value: Any) -> frozenset[Hashable]:
    """The axes of a ``shard_map`` with ``check_vma`` over which a value varies."""
    kind = jax.typeof(value)
    # Newer releases of JAX keep the axes one level down.
    older = getattr(kind, "vma", frozenset())
    return getattr(getattr(kind, "mat", None), "varying", older)


def vary_as(value: Any, other: Any) -> Any:
    """The value, typed as varying over the axes that another varies over too."""
    axes = tuple(varying_axes(other) - varying_axes(value))
    return jax.lax.pcast(value, axes, to="varying") if axes else value


def on_one_cpu(value: Any) -> bool:
    """Whether a program on this value is for one CPU device, as far as is known."""
    mesh = jax.typeof(value).sharding.mesh
    return jax.default_backend() == "cpu" and (
        mesh.size <= 1 or mesh.are_all_axes_manual
    )


def stored(tree: Any) -> Any:
    """The tree as read back from memory instead of computed anew by each consumer.

    XLA's CPU backend would otherwise keep old and new values of donated buffers side by
    side. Others fuse all that is done to the units, which reads less memory.
    """
    if jax.default_backend() != "cpu":
        return tree
    return jax.tree.map(jax.lax.optimization_barrier, tree)


def after(condition: Any, array: Any) -> Any:
    """The condition, known only once an array without NaN has been written."""
    if not on_one_cpu(array) or array.size == 0:
        return condition
    first = array[(0,) * array.ndim]
    return condition & (first == first)
