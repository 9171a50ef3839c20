"""The cycle defect: how far matching is from transitive along a closed cycle."""

import itertools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from combinability._permutation import Permutations, compose, identity
from combinability.symmetry._indexing import at_parents
from combinability.symmetry._symmetry import Permutation, Symmetry

Pair = tuple[int, int]


def cycle_defects(
    symmetry: Symmetry, towards: Mapping[Pair, Permutations], n: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The triples of n networks, and the cycle defects of each."""
    triples = list(itertools.combinations(range(n), 3))
    found = [
        _cycle_defect(symmetry, towards[i, j], towards[j, k], towards[k, i])
        for i, j, k in triples
    ]
    return np.array(triples), {
        name: np.array([defects[name] for defects in found]) for name in symmetry.groups
    }


def cycle_defect(
    symmetry: Symmetry, *permutations: Permutation
) -> dict[str, Float[Array, ""]]:
    """Return the fraction of each group's units that a composition moves.

    A unit of a group within others returns to its place if it and the units that it
    lies within do. The fraction does not depend on where a closed cycle starts.

    Args:
        symmetry: the groups, and which lie within which.
        permutations: the permutations to compose, the last one applied first; groups
            that one does not name stay.

    Returns:
        Group name -> fraction of units that do not return to their place, in [0, 1].

    Raises:
        ValueError: if there is no permutation, a group is unknown, or an index array
            has another shape or dtype or does not name each unit once.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> variables = {"in": jnp.ones((2, 4)), "out": jnp.ones((4, 1))}
        >>> symmetry = combinability.infer_symmetry(apply, variables, jnp.ones((1, 2)))
        >>> turn = {"in": jnp.array([1, 2, 3, 0])}
        >>> float(combinability.cycle_defect(symmetry, turn, turn, turn, turn)["in"])
        0.0
        >>> swap = {"in": jnp.array([1, 0, 2, 3])}
        >>> float(combinability.cycle_defect(symmetry, swap)["in"])
        0.5
    """
    if not permutations:
        raise ValueError("permutations: expected at least one, got none")
    around = identity(symmetry)
    for step in permutations:
        around = compose(symmetry, around, step)
    return {name: moved.mean() for name, moved in moved_units(symmetry, around).items()}


_cycle_defect = jax.jit(cycle_defect, static_argnums=0)


def moved_units(
    symmetry: Symmetry, permutation: Permutations
) -> dict[str, Bool[Array, "*within size"]]:
    """Return which units a permutation of all groups moves.

    A unit of a group within others moves with their units as well as in them.
    """
    moved: dict[str, Bool[Array, "*within size"]] = {}
    for name in sorted(symmetry.groups, key=lambda n: len(symmetry.groups[n].within)):
        group, index = symmetry.groups[name], permutation[name]
        moved[name] = index != jnp.arange(group.size)
        inherited = at_parents(symmetry.groups, moved, name)
        for parent, parent_moved in zip(group.within, inherited, strict=True):
            if parent in symmetry.groups:
                moved[name] |= parent_moved
    return moved


def chance_defect(symmetry: Symmetry) -> dict[str, float]:
    """Return the expected cycle defect of uniformly random permutations, by group.

    A unit of n stays with probability 1/n, if the units that it lies within do:
    1 − 1/(n · units of its parents that may be permuted).
    """
    sizes = {name: group.size for name, group in symmetry.groups.items()}
    return {
        name: 1 - 1 / (group.size * math.prod(sizes.get(p, 1) for p in group.within))
        for name, group in symmetry.groups.items()
    }
