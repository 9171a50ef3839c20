"""Inner products over parameter trees, one set per group of leaves that share a law."""

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from rllc._jaxpr import on_one_cpu, varying_axes

# None: one law for all parameters. "leaf": one per leaf. Labels, or a function from the
# parameters to labels, as in optax.partition: one law per label.
Groups = None | Literal["leaf"] | PyTree | Callable[[Any], PyTree]
AxisName = Hashable | tuple[Hashable, ...] | None


def leaf_groups(
    groups: Groups, tree: Any, params: Any
) -> tuple[tuple[int, ...], tuple[Hashable, ...]]:
    """The group of every leaf of a tree, and the labels of the groups.

    Row i of the laws belongs to the i-th label, in sorted order; labels that cannot be
    compared are sorted by the names of their types, then as strings.

    Args:
        groups: which leaves share a law.
        tree: the tree.
        params: what a function that labels parameters is called with.

    Raises:
        ValueError: if the labels do not cover the tree, or cannot be hashed.
    """
    leaves = len(jax.tree.leaves(tree))
    if groups is None:
        return (0,) * leaves, ("all parameters",)
    if isinstance(groups, str):
        if groups != "leaf":
            raise ValueError(
                f"groups: expected None, 'leaf', or a tree of labels, got {groups!r}"
            )
        return tuple(range(leaves)), tuple(range(leaves))
    if leaves == 0:
        return (), ()
    labels = groups(params) if callable(groups) else groups
    try:
        labels = jax.tree.leaves(jax.tree.broadcast(labels, tree))
    except ValueError as error:
        raise ValueError(
            "groups: expected None, 'leaf', or labels whose structure is the "
            f"parameters' or a prefix of it, as in optax.partition; {error}"
        ) from error
    names = _sorted_labels(labels)
    return tuple(names.index(label) for label in labels), tuple(names)


def _sorted_labels(labels: Sequence[Any]) -> list[Hashable]:
    try:
        names = set(labels)
    except TypeError as error:
        raise ValueError(
            f"groups: expected labels such as strings or integers, got {labels}; "
            f"{error}"
        ) from error
    try:
        return sorted(names)
    except TypeError:
        return sorted(names, key=lambda label: (type(label).__name__, str(label)))


def listed(labels: Sequence[Any]) -> str:
    """The first few labels, for errors."""
    return ", ".join(map(repr, labels[:8])) + ", …" * (len(labels) > 8)


def inner_products(
    trees: Sequence[Any],
    pairs: Sequence[tuple[int, int]],
    leaf_groups: Sequence[int],
    groups: int,
    dtype: Any,
    axis_name: AxisName = None,
) -> Float[Array, "groups pairs"]:
    """⟨treeᵢ, treeⱼ⟩ for each pair (i, j), summed over the leaves of each group.

    Complex leaves count as pairs of real numbers. With an ``axis_name`` the sums run
    over all shards; a leaf that is known to be the same on all of them counts once.
    """
    axes = axis_names(axis_name)
    # Numbers are stacked once, at the end: the time that XLA takes to fuse a chain of
    # sums of vectors explodes with the number of leaves.
    table = [[jnp.zeros([], dtype)] * len(pairs) for _ in range(groups)]
    leaves = zip(*(jax.tree.leaves(tree) for tree in trees), strict=True)
    for group, arrays in zip(leaf_groups, leaves, strict=True):
        # XLA takes no reduction of several precisions.
        common = wide(*(array.dtype for array in arrays))
        arrays = [array.astype(common) for array in arrays]
        sums = _sums([_real_product(arrays[i], arrays[j]) for i, j in pairs])
        copies = _copies(arrays, axes)
        table[group] = [
            total + value.astype(dtype) / copies
            for total, value in zip(table[group], sums, strict=True)
        ]
    rows = [jnp.stack(row) for row in table]
    stacked = jnp.stack(rows) if rows else jnp.zeros((0, len(pairs)), dtype)
    return lax.psum(stacked, axes) if axes else stacked


def gram_pairs(size: int) -> list[tuple[int, int]]:
    """The pairs (i, j ≤ i) that make up a Gram matrix."""
    return [(i, j) for i in range(size) for j in range(i + 1)]


def gram_matrix(products: Float[Array, "groups pairs"], size: int) -> Array:
    """The Gram matrices, shape (groups, size, size), from those pairs' products."""
    place = {pair: index for index, pair in enumerate(gram_pairs(size))}
    entries = [place[max(i, j), min(i, j)] for i in range(size) for j in range(size)]
    columns = [products[:, entry] for entry in entries]
    return jnp.stack(columns, axis=-1).reshape(len(products), size, size)


def wide(*dtypes: Any) -> Any:
    """The common dtype of floating-point or complex ones, at least float32."""
    # JAX promotes no numbers of 8 bits.
    raised = (d if jnp.finfo(d).bits >= 32 else jnp.float32 for d in dtypes)
    return jnp.dtype(functools.reduce(jnp.promote_types, raised))


def axis_names(axis_name: AxisName) -> tuple[Hashable, ...]:
    """The names as a tuple, empty for None."""
    if axis_name is None:
        return ()
    return tuple(axis_name) if isinstance(axis_name, tuple | list) else (axis_name,)


def _copies(leaves: Sequence[Array], axes: tuple[Hashable, ...]) -> int:
    """How many devices hold the same values, as far as `shard_map` knows."""
    copies = 1
    varying = frozenset().union(*map(varying_axes, leaves))
    for axis in axes:
        checked = axis in varying_axes(lax.axis_index(axis))
        copies *= lax.axis_size(axis) if checked and axis not in varying else 1
    return copies


def _real_product(x: Array, y: Array) -> Array:
    return jnp.real(x.conj() * y) if jnp.iscomplexobj(x) else x * y


def _sums(products: Sequence[Array]) -> Sequence[Array]:
    """The sum of each of several arrays of one shape.

    XLA's CPU backend would write converted or scaled operands of a plain sum to memory,
    as large as the parameters. One reduction of all arrays in rows of at most 2¹⁴
    numbers reads each operand once and writes nothing but a sum per row. Across devices
    plain sums are better: they travel in one all-reduce.
    """
    if on_one_cpu(products[0]):
        rows = max(1, math.ceil(products[0].size / 2**14))
        tables = [
            jnp.pad(product.reshape(-1), (0, -product.size % rows)).reshape(rows, -1)
            for product in products
        ]
        products = _row_sums(tables)
    return [jnp.sum(product) for product in products]


@jax.custom_jvp
def _row_sums(tables: list[Array]) -> list[Array]:
    """The sum of each row of several tables, in one reduction."""
    zeros = [jnp.zeros([], table.dtype) for table in tables]
    return lax.reduce(tables, zeros, _add, (1,))


def _add(x, y):
    return [a + b for a, b in zip(x, y, strict=True)]


@_row_sums.defjvp
def _row_sums_jvp(primals, tangents):
    # JAX's own rule fails where some of the arrays are constant.
    return _row_sums(*primals), [jnp.sum(tangent, axis=1) for tangent in tangents[0]]
