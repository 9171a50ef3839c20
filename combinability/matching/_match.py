"""The strongest matching from weights alone: many starts, the best end kept."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from combinability import _permutation
from combinability._checks import check_count
from combinability._keys import check_any_key
from combinability.matching._annealing import annealed
from combinability.matching._checks import checked_blocks
from combinability.matching._host import Ascent
from combinability.matching._matching import Matching
from combinability.matching._starts import pinned_sides, signatures
from combinability.matching._terms import plan
from combinability.matching._weights import climb, sweep_orders
from combinability.symmetry._symmetry import Symmetry


def match(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    *,
    key: PRNGKeyArray,
    restarts: int = 4,
    annealing_steps: int = 20,
    max_sweeps: int = 100,
) -> Matching:
    """Matches the units of b to those of a by weights, from many starts.

    Coordinate descent (`weight_matching`) ends in a local optimum, and which one
    depends on where it starts. Here it starts from

    - `"identity"`: with this key exactly what `weight_matching` does, so that the
      result is never worse than that;
    - `"pinned"`: groups that touch inputs and outputs are assigned first, then inwards,
      each by what has been assigned already;
    - `"signatures"`: units are paired whose sorted weights and sorted inner products
      with the other units are alike, which no permutation changes;
    - `"annealed"`: soft assignments of all groups at once, which spread from the inputs
      and outputs and harden slowly;
    - `"random 1"`, …: random permutations,

    and the end with the highest objective is kept.

    Args:
        symmetry: what may be permuted.
        a: the network to move towards, a tree as the symmetry's.
        b: the network to be moved, likewise.
        key: a key of `jax.random`, for the order of the groups and random starts.
        restarts: the number of random starts.
        annealing_steps: the number of temperatures; the time of each is about that of a
            sweep over all groups.
        max_sweeps: the largest number of sweeps from each start.

    Returns:
        The permutation of b, the objective, its history from the best start, and in
        `starts` the objective that each start led to.

    Raises:
        ValueError: if trees do not match the symmetry, parameters are not finite or a
            number is out of range.
        TypeError: if parameters are not real numbers.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> matching = combinability.match(
        ...     symmetry, a, b, key=jax.random.key(0), restarts=1
        ... )
        >>> matching.permutation["in"].tolist(), sorted(matching.starts)
        ([1, 2, 0], ['annealed', 'identity', 'pinned', 'random 1', 'signatures'])

    References:
        Coordinate descent: Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 1.
        Annealing: after Gold and Rangarajan, 1996. The choice of starts is ours.
    """
    key = check_any_key(key)
    check_count("restarts", restarts, 0)
    check_count("annealing_steps", annealing_steps, 1)
    check_count("max_sweeps", max_sweeps, 1)
    parts = checked_blocks(symmetry, a, "a"), checked_blocks(symmetry, b, "b")
    return match_blocks(
        symmetry,
        *parts,
        key,
        restarts=restarts,
        annealing_steps=annealing_steps,
        max_sweeps=max_sweeps,
    )


def match_blocks(
    symmetry: Symmetry,
    a: list[Array],
    b: list[Array],
    key: PRNGKeyArray,
    *,
    restarts: int = 4,
    annealing_steps: int = 20,
    max_sweeps: int = 100,
) -> Matching:
    """`match` of the blocks of two networks."""
    terms = plan(symmetry)
    starts: dict[str, Mapping[str, Any]] = {
        "identity": {},
        "signatures": signatures(symmetry, terms, a, b),
        "annealed": annealed(plan(symmetry, relaxed=True), a, b, annealing_steps),
    }
    for number in range(restarts):
        drawn = _permutation.random(jax.random.fold_in(key, number), symmetry)
        starts[f"random {number + 1}"] = drawn
    orders = sweep_orders(key, len(terms.families), max_sweeps)
    ends = {"pinned": climb(pinned_sides(terms, a, b), orders)}
    for name, start in starts.items():
        ends[name] = climb(Ascent(terms, a, b, start), orders)
    objectives = {name: float(end.objective) for name, end in ends.items()}
    return ends[max(objectives, key=objectives.__getitem__)]._replace(starts=objectives)
