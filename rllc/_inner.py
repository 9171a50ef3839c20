"""Inner products over parameter trees, one set a group of leaves."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gradient_products(
    units: Sequence[Any], gradient: Any, leaf_groups: Sequence[int], groups: int, dtype
) -> tuple[Float[Array, "groups k"], Float[Array, " groups"]]:
    """u = Mᵀg and ‖g‖², summed over the leaves of each group.

    Complex leaves count as pairs of real numbers.
    """
    rows = [[] for _ in range(groups)]
    leaves = zip(*(jax.tree.leaves(tree) for tree in (*units, gradient)), strict=True)
    for group, (*unit_leaves, gradient_leaf) in zip(leaf_groups, leaves, strict=True):
        products = _products((*unit_leaves, gradient_leaf), gradient_leaf)
        rows[group].append(products.astype(dtype))
    table = _stacked(rows, (len(units) + 1,), dtype)
    return table[:, :-1], table[:, -1]


def gram_matrix(
    units: Sequence[Any], leaf_groups: Sequence[int], groups: int, dtype
) -> Float[Array, "groups k k"]:
    """MᵀM, summed over the leaves of each group."""
    rows = [[] for _ in range(groups)]
    leaves = zip(*(jax.tree.leaves(unit) for unit in units), strict=True)
    for group, unit_leaves in zip(leaf_groups, leaves, strict=True):
        lower = [
            _products(unit_leaves[: i + 1], unit) for i, unit in enumerate(unit_leaves)
        ]
        rows[group].append(_symmetric(lower).astype(dtype))
    return _stacked(rows, (len(units), len(units)), dtype)


def _products(leaves: Sequence[Array], other: Array) -> Float[Array, " m"]:
    return jnp.stack([_real_inner(leaf, other) for leaf in leaves])


def _real_inner(x: Array, y: Array) -> Array:
    accumulator = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    x, y = x.astype(accumulator), y.astype(accumulator)
    return jnp.sum(jnp.real(x.conj() * y)) if jnp.iscomplexobj(x) else jnp.sum(x * y)


def _symmetric(lower: Sequence[Array]) -> Float[Array, "k k"]:
    size = len(lower)
    return jnp.stack(
        [
            jnp.stack([lower[max(i, j)][min(i, j)] for j in range(size)])
            for i in range(size)
        ]
    )


def _stacked(rows, shape: tuple[int, ...], dtype) -> Array:
    """Adds up each group's entries; a group without leaves has zeros."""
    return (
        jnp.stack(
            [
                sum(entries[1:], entries[0]) if entries else jnp.zeros(shape, dtype)
                for entries in rows
            ]
        )
        if rows
        else jnp.zeros((0, *shape), dtype)
    )
