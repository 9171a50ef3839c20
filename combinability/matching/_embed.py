"""A network in the shape of a wider one, so that the two can be matched."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from combinability.symmetry._symmetry import Symmetry, check_symmetry


def embed(symmetry: Symmetry, variables: PyTree, wider: Symmetry) -> PyTree:
    r"""Give a network the shape of a wider one by units whose weights are zero.

    Matching the result a' to the wider network b assigns each unit of a to one of b,

    .. math::

        \max_\pi \langle a', \pi(b) \rangle = \max_{\sigma\ \text{injective}}
        \sum_l \langle a_l, b_l[\sigma] \rangle

    with π(i) = σ(i) for the n units of a; the units `permutation[group][n:]` of b are
    left over. Zero units change no sum over units: the function of a network stays
    unless it normalises over units (LayerNorm, GroupNorm, softmax).

    Args:
        symmetry, variables: of the network.
        wider: the symmetry of a network of the same architecture with as many or more
            units in each group.

    Returns:
        A tree like the variables, with the shapes of the wider network.

    Raises:
        ValueError: if the architectures differ in more than the sizes of groups, or a
            group has fewer units in `wider`.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.array([[1.0, 2.0]]), "out": jnp.array([[3.0], [4.0]])}
        >>> b = {"in": jnp.array([[2.0, 5.0, 1.0]]), "out": jnp.ones((3, 1))}
        >>> x = jnp.ones((1, 1))
        >>> narrow, wide = (combinability.infer_symmetry(apply, v, x) for v in (a, b))
        >>> combinability.embed(narrow, a, wide)["in"].tolist()
        [[1.0, 2.0, 0.0]]
    """
    check_symmetry("symmetry", symmetry)
    check_symmetry("wider", wider)
    leaves = list(map(jnp.asarray, symmetry.check(variables, "variables")))
    paths, wider_paths = ([x.path for x in s.leaves] for s in (symmetry, wider))
    shared, wider_shared = (
        [(block.leaf, block.labels) for block in s.partition] for s in (symmetry, wider)
    )
    if paths != wider_paths or shared != wider_shared:
        raise ValueError(
            "wider: expected the symmetry of a network with the same leaves and groups "
            "as that of symmetry; infer both from one function"
        )
    for name, group in symmetry.groups.items():
        if wider.groups[name].size < group.size:
            raise ValueError(
                f"wider: expected at least {group.size} units in group {name!r}, got "
                f"{wider.groups[name].size}; embed the other network"
            )
    carried = {block.leaf for block in symmetry.blocks}
    found = []
    for number, (leaf, target) in enumerate(zip(leaves, wider.leaves, strict=True)):
        if leaf.shape != target.shape:
            if number not in carried:
                raise _other_shape(target.path, target.shape, leaf.shape)
            leaf = jnp.zeros(target.shape, leaf.dtype)
        found.append(leaf)
    for block, target in zip(symmetry.partition, wider.partition, strict=True):
        sizes = list(zip(block.shape, target.shape, block.labels, strict=True))
        if any(x != y and label not in symmetry.groups for x, y, label in sizes):
            path = wider.leaves[target.leaf].path
            raise _other_shape(path, target.shape, block.shape)
        part = block.take(leaves[block.leaf])
        part = jnp.pad(part, [(0, large - small) for small, large, _ in sizes])
        found[block.leaf] = target.put(found[block.leaf], part)
    return jax.tree.unflatten(jax.tree.structure(variables), found)


def _other_shape(path: str, wide: tuple, narrow: tuple) -> ValueError:
    return ValueError(
        f"wider: expected {path!r} to differ only in the sizes of groups, got shape "
        f"{wide} for {narrow}"
    )
