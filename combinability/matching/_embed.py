"""A network in the shape of a wider one, so that the two can be matched."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability.symmetry._symmetry import Symmetry


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
        symmetry: that of the network.
        variables: the network.
        wider: the symmetry of a network of the same architecture with as many or more
            units in each group.

    Returns:
        A tree like the variables, with the shapes of the wider network.

    Raises:
        ValueError: if the architectures differ in more than the sizes of groups, or a
            group has fewer units in `wider`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.array([[1.0, 2.0]]), "out": jnp.array([[3.0], [4.0]])}
        >>> b = {"in": jnp.array([[2.0, 5.0, 1.0]]), "out": jnp.ones((3, 1))}
        >>> x = jnp.ones((1, 1))
        >>> narrow, wide = (combinability.infer_symmetry(apply, v, x) for v in (a, b))
        >>> embedded = combinability.embed(narrow, a, wide)
        >>> embedded["in"].tolist()
        [[1.0, 2.0, 0.0]]
        >>> found = combinability.match(wide, embedded, b, key=jax.random.key(0))
        >>> found.permutation["in"][2:].tolist()  # the unit of b that is left over
        [2]
    """
    leaves = list(map(jnp.asarray, symmetry.check(variables, "variables")))
    paths = [leaf.path for leaf in symmetry.leaves]
    same = [b.leaf for b in symmetry.blocks] == [b.leaf for b in wider.blocks]
    labels = [b.labels for b in symmetry.blocks] == [b.labels for b in wider.blocks]
    if paths != [leaf.path for leaf in wider.leaves] or not (same and labels):
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
    found = [
        leaf if leaf.shape == target.shape else jnp.zeros(target.shape, leaf.dtype)
        for leaf, target in zip(leaves, wider.leaves, strict=True)
    ]
    covered = [0] * len(leaves)
    for block, target in zip(symmetry.blocks, wider.blocks, strict=True):
        number = block.leaf
        covered[number] += int(np.prod(block.shape))
        if leaves[number].shape != found[number].shape:
            grown = zip(block.shape, target.shape, strict=True)
            part = block.take(leaves[number])
            part = jnp.pad(part, [(0, max(large - small, 0)) for small, large in grown])
            if part.shape == target.shape:
                found[number] = target.put(found[number], part)
                continue
            covered[number] = -1
    for leaf, target, count in zip(leaves, wider.leaves, covered, strict=True):
        if leaf.shape != target.shape and count != leaf.size:
            raise ValueError(
                f"wider: expected {target.path!r} to differ only in the sizes of "
                f"groups, got shape {target.shape} for {leaf.shape}"
            )
    return jax.tree.unflatten(jax.tree.structure(variables), found)
