"""The baseline of weight matching: coordinate descent as a plain loop over arrays."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from scipy.optimize import linear_sum_assignment

from combinability import Symmetry


def match_by_loop(
    symmetry: Symmetry, a: PyTree, b: PyTree, orders: np.ndarray
) -> tuple[dict[str, Array], float]:
    """Git Re-Basin's weight matching in the manner of its published implementation.

    For each group in random order, for each array that carries it: permute all other
    axes of b's array, bring the group's axis of both to the front, flatten the others
    and add the matrix product; then SciPy assigns. Until no group improves.

    Args:
      symmetry: What may be permuted; no group within another, none on two axes of one
        array.
      a: The network to move towards.
      b: The network to be moved.
      orders: The order of the groups, by number, for each sweep.

    Returns:
      The permutation of b, and the inner product of the aligned weights.
    """
    blocks_a, blocks_b = symmetry.split(a), symmetry.split(b)
    names = list(symmetry.groups)
    permutation: dict[str | None, Array] = {
        name: jnp.arange(group.size) for name, group in symmetry.groups.items()
    }
    for order in orders.tolist():
        improved = False
        for number in order:
            name: str = names[number]
            size = symmetry.groups[name].size
            worth = jnp.zeros((size, size))
            for block, x, y in zip(symmetry.blocks, blocks_a, blocks_b, strict=True):
                if name not in block.labels:
                    continue
                axis = block.labels.index(name)
                for other, label in enumerate(block.labels):
                    if label is not None and other != axis:
                        y = jnp.take(y, permutation[label], axis=other)
                x = jnp.moveaxis(x, axis, 0).reshape(size, -1)
                y = jnp.moveaxis(y, axis, 0).reshape(size, -1)
                worth += x @ y.T
            matrix = np.asarray(worth)
            rows, columns = linear_sum_assignment(matrix, maximize=True)
            new = matrix[rows, columns].sum()
            if new > matrix[rows, permutation[name]].sum() + 1e-6 * abs(new):
                improved = True
                permutation[name] = jnp.asarray(columns)
        if not improved:
            break
    found = {name: permutation[name] for name in names}
    aligned = symmetry.split(symmetry.apply(found, b))
    pairs = zip(blocks_a, aligned, strict=True)
    return found, sum(float(jnp.vdot(x, y)) for x, y in pairs)
