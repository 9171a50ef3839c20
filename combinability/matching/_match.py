"""Matching by weights: coordinate ascent from one start, or a race of many."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from combinability._checks import check_any_key, check_count, check_number
from combinability._combine import check_finite
from combinability.matching._ascent import Ascent
from combinability.matching._objective import Objective, Plan, plan
from combinability.matching._starts import annealed, pinned_sides, signatures
from combinability.symmetry._symmetry import (
    Group,
    Permutation,
    Symmetry,
    check_symmetry,
)

Groups = Collection[str] | Callable[[str, Group], bool]
LeafWeights = Mapping[str, float] | Callable[[str], float]

# The fraction of units that a restart permutes at random.
_PERTURBED = 0.1


class Matching(NamedTuple):
    """A permutation that moves one network towards another, and its objective.

    Attributes:
        permutation: group name -> index array, for `Symmetry.apply`.
        objective: what was maximised, at the end: for matching by weights the inner
            product ⟨a, π(b)⟩ over all arrays that carry a group, which is largest where
            π(b) is nearest to a. Straight-through matching minimises: there it is the
            lowest loss.
        history: the objective at the start and after each sweep over the groups; for
            straight-through matching each evaluated loss.
        starts: for `match` the objective that each start reached before it was dropped.
    """

    permutation: dict[str, Int[Array, "*within size"]]
    objective: Float[Array | np.generic, ""]
    history: Float[Array | np.ndarray, " sweeps_and_start"]
    starts: Mapping[str, float] | None = None


def weight_matching(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    *,
    key: PRNGKeyArray,
    start: Permutation | Literal["pinned"] | None = None,
    max_sweeps: int = 100,
    groups: Groups | None = None,
    fixed: Permutation | None = None,
    leaf_weights: LeafWeights | None = None,
) -> Matching:
    r"""Permute the units of b so that its weights come close to those of a.

    .. math::

        \max_\pi \sum_l w_l \langle a_l, \pi(b)_l \rangle
        \quad\text{which is}\quad \min_\pi \sum_l w_l \|a_l - \pi(b)_l\|^2

    over all leaves l that carry a group. With all groups but one fixed, the best
    permutation of that one is a linear assignment problem; groups are visited in random
    order, sweep after sweep, until none improves. The objective never falls; the end is
    a local optimum.

    A group within others is assigned for every pair of their units, so that parents are
    matched by the best that their children can do. Where one group is on two axes of
    one array (a recurrent kernel), the problem is quadratic: the assignment for its
    derivative is taken if the objective itself rises.

    Args:
        symmetry: what can be permuted.
        a, b: the network to move towards, and the one to be moved: trees as the
            symmetry's. float16 and bfloat16 are computed in float32.
        key: a key of `jax.random`, for the order of the groups.
        start: the permutation to start from; groups that it does not name, or None:
            the identity. `"pinned"`: groups that touch inputs and outputs are assigned
            first, then inwards, each by what has been assigned already; usually faster
            and better than the identity.
        max_sweeps: the largest number of sweeps over the groups; 100.
        groups: the groups to match, by name or by a predicate
            `groups(name, group) -> bool`; None: all that `fixed` does not name. The
            others stay as at the start.
        fixed: permutations of groups that are held while the others are matched.
        leaf_weights: the weights w in the objective by the path of a leaf, or a
            function of the path; 0 ignores a leaf. Leaves that are not named have 1.

    Raises:
        ValueError: if trees, groups, permutations or leaves do not match the symmetry,
            parameters are not finite, or nothing is left to match.
        TypeError: if parameters are not real numbers, or anything is traced.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> key = jax.random.key(0)
        >>> matching = combinability.weight_matching(symmetry, a, b, key=key)
        >>> matching.permutation["in"].tolist(), float(matching.objective)
        ([1, 2, 0], 16.0)

    References:
        Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 1; nested groups and groups
        on two axes are ours.
    """
    key = check_any_key(key)
    check_count("max_sweeps", max_sweeps, 1)
    matched, held = choose(symmetry, groups, fixed)
    given = {} if start is None or start == "pinned" else start
    symmetry.check_permutation(given, "start")
    objective = _weight_objective(symmetry, a, b, matched, leaf_weights)
    if start == "pinned":
        ascent = pinned_sides(objective, held)
    else:
        ascent = Ascent(objective, {**given, **held})
    return result(ascent.run(sweep_orders(generator(key), objective.plan, max_sweeps)))


def match(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    *,
    key: PRNGKeyArray,
    restarts: int = 2,
    annealing_steps: int = 20,
    max_sweeps: int = 100,
    groups: Groups | None = None,
    fixed: Permutation | None = None,
    leaf_weights: LeafWeights | None = None,
) -> Matching:
    """Match the units of b to those of a by weights, from several starts.

    Coordinate ascent (`weight_matching`) ends in a local optimum, and which one depends
    on where it starts. Here it starts from

    - `"identity"`, and `"pinned"` as in `weight_matching`;
    - `"signatures"`: units are paired whose sorted weights and sorted inner products
      with the other units are alike, which no permutation changes;
    - `"annealed"`: soft assignments of all groups at once, which spread from the inputs
      and outputs and harden slowly.

    The starts race: one sweep each, then the better half two sweeps, and so on; the
    last one goes on until no group improves. Then, `restarts` times, a tenth of the
    units of the best permutation are permuted at random and the ascent repeated
    (`"perturbed 1"`, …); the best end is returned.

    Args:
        symmetry, a, b, key, max_sweeps, groups, fixed, leaf_weights: as in
            `weight_matching`.
        restarts: the number of perturbed restarts; 2.
        annealing_steps: the number of temperatures, 20; each takes about as long as a
            sweep over all groups.

    Raises:
        ValueError, TypeError: as `weight_matching`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> key = jax.random.key(0)
        >>> found = combinability.match(symmetry, a, b, key=key, restarts=1)
        >>> found.permutation["in"].tolist(), sorted(found.starts)
        ([1, 2, 0], ['annealed', 'identity', 'perturbed 1', 'pinned', 'signatures'])

    References:
        Annealing: after Gold and Rangarajan, 1996. The race: successive halving,
        Jamieson and Talwalkar, 2016. Perturbations: iterated local search, Lourenço et
        al., 2003. The choice of starts is ours.
    """
    key = check_any_key(key)
    check_count("restarts", restarts, 0)
    check_count("annealing_steps", annealing_steps, 1)
    check_count("max_sweeps", max_sweeps, 1)
    matched, held = choose(symmetry, groups, fixed)
    objective = _weight_objective(symmetry, a, b, matched, leaf_weights)
    return race(
        symmetry, objective, matched, held, key, restarts, annealing_steps, max_sweeps
    )


def race(
    symmetry,
    objective,
    matched,
    held,
    key,
    restarts=2,
    annealing_steps=20,
    max_sweeps=100,
) -> Matching:
    """`match` for a given objective, with the groups `held` as they are."""
    rng = generator(key)
    orders = sweep_orders(rng, objective.plan, max_sweeps)
    soft = Objective(plan(symmetry, matched, relaxed=True), objective.a, objective.b)
    ascents = {
        "identity": Ascent(objective, held),
        "pinned": pinned_sides(objective, held),
        "signatures": Ascent(objective, signatures(symmetry, objective, held)),
        "annealed": Ascent(objective, annealed(soft, held, annealing_steps)),
    }
    reached, sweeps = {}, 1
    while ascents:
        for ascent in ascents.values():
            ascent.run(orders, sweeps if len(ascents) > 1 else None)
        reached |= {name: ascent.history[-1] for name, ascent in ascents.items()}
        ranked = sorted(ascents, key=reached.__getitem__, reverse=True)
        best = ascents[ranked[0]]
        ascents = {name: ascents[name] for name in ranked[: len(ranked) // 2]}
        sweeps *= 2
    for number in range(restarts):
        start = dict(best.permutation)
        for name in matched:
            index = start[name].copy()
            count = max(2, round(_PERTURBED * index.shape[-1]))
            chosen = rng.permutation(index.shape[-1])[:count]
            index[..., chosen] = rng.permuted(index[..., chosen], axis=-1)
            start[name] = index
        ascent = Ascent(objective, start).run(orders)
        reached[f"perturbed {number + 1}"] = ascent.history[-1]
        best = max(best, ascent, key=lambda end: end.history[-1])
    return result(best)._replace(starts=reached)


def result(ascent: Ascent) -> Matching:
    """The matching that an ascent ended at."""
    found = {name: jnp.asarray(index) for name, index in ascent.permutation.items()}
    history = np.array(ascent.history)
    return Matching(found, history[-1], history)


def generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy's generator seeded by a key."""
    if isinstance(key, Tracer):
        raise TypeError(
            "key: expected a concrete key, got a traced one; matching assigns on the "
            "host, outside of jit and vmap"
        )
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def sweep_orders(
    rng: np.random.Generator, plan: Plan, sweeps: int
) -> Int[np.ndarray, "sweeps families"]:
    """A random order of the families for each sweep."""
    orders = np.tile(np.arange(len(plan.families)), (sweeps, 1))
    return rng.permuted(orders, axis=1)


def choose(
    symmetry: Symmetry, groups: Groups | None, fixed: Permutation | None
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The groups to match and the permutations to hold, from the arguments."""
    check_symmetry("symmetry", symmetry)
    fixed = {} if fixed is None else fixed
    symmetry.check_permutation(fixed, "fixed")
    held = {name: np.asarray(index) for name, index in fixed.items()}
    return selected_groups(symmetry, groups, fixed), held


def selected_groups(
    symmetry: Symmetry, groups: Groups | None, fixed: Collection[str]
) -> tuple[str, ...]:
    """The groups to match: those asked for, by default all that are not fixed."""
    check_symmetry("symmetry", symmetry)
    known = symmetry.groups
    if not known:
        raise ValueError(
            "symmetry: has no groups; print(symmetry) says why axes are pinned"
        )
    if groups is None:
        matched = tuple(name for name in known if name not in fixed)
    elif callable(groups):
        matched = tuple(name for name, group in known.items() if groups(name, group))
    elif isinstance(groups, Iterable):
        matched = (groups,) if isinstance(groups, str) else tuple(groups)
    else:
        raise TypeError(
            "groups: expected names of groups, or a function groups(name, group) -> "
            f"bool, got {groups!r}"
        )
    for name in matched:
        if name not in known:
            raise ValueError(
                f"groups: no group {name!r}; the groups are {', '.join(known)}"
            )
        if name in fixed:
            raise ValueError(
                f"fixed: expected groups that are not matched, got {name!r}"
            )
    if not matched:
        raise ValueError("groups: expected at least one group to match, got none")
    return matched


def _weight_objective(symmetry, a, b, matched, leaf_weights) -> Objective:
    blocks = (
        checked_blocks(symmetry, network, name, leaf_weights)
        for name, network in (("a", a), ("b", b))
    )
    return Objective(plan(symmetry, matched), *blocks)


def checked_blocks(
    symmetry: Symmetry,
    variables: PyTree,
    name: str,
    leaf_weights: LeafWeights | None = None,
) -> list[np.ndarray]:
    """The weighted blocks of a network, in float32 or float64."""
    leaves = symmetry.check(variables, name)
    for number in sorted({block.leaf for block in symmetry.blocks}):
        path, leaf = symmetry.leaves[number].path, leaves[number]
        if isinstance(leaf, Tracer):
            raise TypeError(
                f"{name}: expected concrete arrays, got a traced one at {path!r}; "
                "matching assigns on the host, outside of jit and vmap"
            )
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{name}: expected real floating-point numbers, got {dtype.name} at "
                f"{path!r}; match the real and imaginary parts of complex parameters "
                "as separate leaves"
            )
        check_finite(name, [(path, leaf)])
    arrays = [np.asarray(block) for block in symmetry.split(variables)]
    wide = [x if x.dtype in ("float32", "float64") else x.astype("f4") for x in arrays]
    return weighted(symmetry, wide, leaf_weights)


def weighted(
    symmetry: Symmetry, blocks: Sequence[np.ndarray], leaf_weights: LeafWeights | None
) -> list[np.ndarray]:
    """Blocks times the square roots of their leaves' weights."""
    if leaf_weights is None:
        return list(blocks)
    paths = [leaf.path for leaf in symmetry.leaves]
    if callable(leaf_weights):
        leaf_weights = {path: leaf_weights(path) for path in paths}
    if not isinstance(leaf_weights, Mapping):
        raise TypeError(
            "leaf_weights: expected a dict from path to weight or a function of a "
            f"path, got {leaf_weights!r}"
        )
    for path, weight in leaf_weights.items():
        if path not in paths:
            known = ", ".join(paths)
            raise ValueError(f"leaf_weights: no leaf {path!r}; the leaves are {known}")
        check_number(f"leaf_weights[{path!r}]", weight, 0)
    roots = [np.sqrt(float(leaf_weights.get(path, 1.0))) for path in paths]
    pairs = zip(symmetry.blocks, blocks, strict=True)
    return [array * array.dtype.type(roots[block.leaf]) for block, array in pairs]
