"""Matching by weights: coordinate ascent from one start, or a race of many."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from combinability._checks import check_any_key, check_count, check_number
from combinability.matching._ascent import Ascent
from combinability.matching._objective import Objective, Plan, plan
from combinability.matching._starts import annealed, pinned_sides, signatures
from combinability.symmetry._symmetry import Group, Permutation, Symmetry

Groups = Collection[str] | Callable[[str, Group], bool]
LeafWeights = Mapping[str, float] | Callable[[str], float]

# The fraction of units that a restart permutes at random.
_PERTURBED = 0.1


class Matching(NamedTuple):
    """A permutation that moves one network towards another, and its objective.

    Attributes:
        permutation: group name -> index array, for `Symmetry.apply`: (size,), or
            (*blocks, size) for a group within others.
        objective: what was maximised, at the end. For matching by weights this is the
            inner product ⟨a, π(b)⟩ over all arrays that carry a group; π(b) is nearest
            to a, in the Euclidean norm, where it is largest. Straight-through
            matching minimises: there it is the lowest loss.
        history: the objective at the start and after each sweep over the groups; for
            straight-through matching each evaluated loss.
        starts: for `match` the objective that each start reached before it was dropped.
    """

    permutation: dict[str, Int[Array, "*within size"]]
    objective: Float[Array | np.generic, ""]
    history: Float[Array | np.ndarray, " sweeps_and_start"]
    starts: Mapping[str, float] | None = None


class Choice(NamedTuple):
    """The groups that are matched, and permutations of others that are held fixed."""

    matched: tuple[str, ...]
    held: dict[str, np.ndarray]


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
        a: the network to move towards, a tree as the symmetry's. float16 and bfloat16
            are computed in float32.
        b: the network to be moved, likewise.
        key: a key of `jax.random`, for the order of the groups.
        start: the permutation to start from; groups that it does not name, or None:
            the identity. `"pinned"`: groups that touch inputs and outputs are assigned
            first, then inwards, each by what has been assigned already; usually faster
            and better than the identity.
        max_sweeps: the largest number of sweeps; 100.
        groups: the groups to match, by name or by a predicate
            `groups(name, group) -> bool`; None: all that `fixed` does not name. The
            others stay at `start`.
        fixed: permutations of groups that are held while the others are matched.
        leaf_weights: the weights w in the objective by the path of a leaf, or a
            function of the path; 0 ignores a leaf. Leaves that are not named have 1.

    Returns:
        The permutation of b, the objective and its history.

    Raises:
        ValueError: if trees do not match the symmetry, parameters are not finite, a
            number is out of range, a group or leaf is unknown, nothing is left to
            match, or `start` or `fixed` is no permutation of these groups.
        TypeError: if parameters are not real numbers, or anything is traced.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
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
    choice = choose(symmetry, groups, fixed)
    given = {} if start is None or start == "pinned" else start
    symmetry.check_permutation(given, "start")
    objective = weight_objective(symmetry, a, b, choice, leaf_weights)
    if start == "pinned":
        ascent = pinned_sides(objective, choice.held)
    else:
        ascent = Ascent(objective, {**given, **choice.held})
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

    - `"identity"`;
    - `"pinned"`: groups that touch inputs and outputs are assigned first, then inwards,
      each by what has been assigned already;
    - `"signatures"`: units are paired whose sorted weights and sorted inner products
      with the other units are alike, which no permutation changes;
    - `"annealed"`: soft assignments of all groups at once, which spread from the inputs
      and outputs and harden slowly.

    The starts race: one sweep each, then the better half two sweeps, and so on; the
    last one goes on until no group improves. Then, `restarts` times, a tenth of the
    units of the best permutation are permuted at random and the ascent repeated
    (`"perturbed 1"`, …); the best end is returned.

    Args:
        symmetry: what can be permuted.
        a: the network to move towards, a tree as the symmetry's.
        b: the network to be moved, likewise.
        key: a key of `jax.random`, for the order of the groups and the perturbations.
        restarts: the number of perturbed restarts; 2.
        annealing_steps: the number of temperatures, 20; each takes about as long as a
            sweep over all groups.
        max_sweeps: the largest number of sweeps from each start; 100.
        groups: the groups to match, as for `weight_matching`; the others stay.
        fixed: permutations of groups that are held while the others are matched.
        leaf_weights: weights of leaves in the objective, as for `weight_matching`.

    Returns:
        The permutation of b, the objective, its history from the best start, and in
        `starts` the objective that each start reached.

    Raises:
        ValueError: as for `weight_matching`.
        TypeError: as for `weight_matching`.

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
        ([1, 2, 0], ['annealed', 'identity', 'perturbed 1', 'pinned', 'signatures'])

    References:
        Coordinate ascent: Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 1.
        Annealing: after Gold and Rangarajan, 1996. The race: successive halving,
        Jamieson and Talwalkar, 2016. Perturbations: iterated local search, Lourenço et
        al., 2003. The choice of starts is ours.
    """
    key = check_any_key(key)
    check_count("restarts", restarts, 0)
    check_count("annealing_steps", annealing_steps, 1)
    check_count("max_sweeps", max_sweeps, 1)
    choice = choose(symmetry, groups, fixed)
    objective = weight_objective(symmetry, a, b, choice, leaf_weights)
    return match_blocks(
        symmetry, objective, key, choice, restarts, annealing_steps, max_sweeps
    )


def match_blocks(
    symmetry: Symmetry,
    objective: Objective,
    key: PRNGKeyArray,
    choice: Choice,
    restarts: int = 2,
    annealing_steps: int = 20,
    max_sweeps: int = 100,
) -> Matching:
    """`match` for a given objective."""
    held, rng = choice.held, generator(key)
    orders = sweep_orders(rng, objective.plan, max_sweeps)
    soft_plan = plan(symmetry, choice.matched, relaxed=True)
    soft = Objective(soft_plan, objective.a, objective.b)
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
        start = _perturbed(best.permutation, choice.matched, rng)
        ascent = Ascent(objective, start).run(orders)
        reached[f"perturbed {number + 1}"] = ascent.history[-1]
        best = max(best, ascent, key=lambda end: end.history[-1])
    return result(best)._replace(starts=reached)


def _perturbed(
    permutation: Mapping[str, np.ndarray],
    matched: Collection[str],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """A permutation with a tenth of the units of each matched group in random order."""
    found = dict(permutation)
    for name in matched:
        index = permutation[name].copy()
        count = max(2, round(_PERTURBED * index.shape[-1]))
        chosen = rng.permutation(index.shape[-1])[:count]
        index[..., chosen] = rng.permuted(index[..., chosen], axis=-1)
        found[name] = index
    return found


def weight_objective(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    choice: Choice,
    leaf_weights: LeafWeights | None,
) -> Objective:
    """The objective of matching by weights; checks both networks."""
    return Objective(
        plan(symmetry, choice.matched),
        checked_blocks(symmetry, a, "a", leaf_weights),
        checked_blocks(symmetry, b, "b", leaf_weights),
    )


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
) -> Choice:
    """The groups that the arguments of the same names choose."""
    known = symmetry.groups
    if groups is None:
        matched = tuple(known)
    elif callable(groups):
        matched = tuple(name for name, group in known.items() if groups(name, group))
    else:
        matched = (groups,) if isinstance(groups, str) else tuple(groups)
    unknown = [name for name in matched if name not in known]
    if unknown:
        raise ValueError(
            f"groups: no group {unknown[0]!r}; the groups are {', '.join(known)}"
        )
    fixed = {} if fixed is None else fixed
    symmetry.check_permutation(fixed, "fixed")
    if groups is None:
        matched = tuple(name for name in matched if name not in fixed)
    both = [name for name in matched if name in fixed]
    if both:
        raise ValueError(
            f"fixed: expected groups that are not matched, got {both[0]!r}"
        )
    if not matched:
        raise ValueError("groups: expected at least one group to match, got none")
    return Choice(matched, {name: np.asarray(index) for name, index in fixed.items()})


def checked_blocks(
    symmetry: Symmetry,
    variables: PyTree,
    name: str,
    leaf_weights: LeafWeights | None = None,
) -> list[np.ndarray]:
    """The weighted blocks of a network, in float32 or float64.

    Raises:
        ValueError: if leaves differ from the symmetry's or are not finite, or a weight
            is negative or not finite.
        TypeError: if a leaf that carries a group does not hold real numbers, or is
            traced.
    """
    leaves = symmetry.check(variables, name)
    for number in sorted({block.leaf for block in symmetry.blocks}):
        _check_leaf(name, symmetry.leaves[number].path, leaves[number])
    arrays = [np.asarray(block) for block in symmetry.split(variables)]
    wide = [x if x.dtype in ("float32", "float64") else x.astype("f4") for x in arrays]
    return weighted(symmetry, wide, leaf_weights)


def weighted(
    symmetry: Symmetry, blocks: Sequence[np.ndarray], leaf_weights: LeafWeights | None
) -> list[np.ndarray]:
    """Blocks times the square roots of their leaves' weights."""
    if leaf_weights is None:
        return list(blocks)
    roots = np.sqrt(_weights_of_leaves(symmetry, leaf_weights))
    pairs = zip(symmetry.blocks, blocks, strict=True)
    return [array * array.dtype.type(roots[block.leaf]) for block, array in pairs]


def _check_leaf(name: str, path: str, leaf: Any) -> None:
    if isinstance(leaf, Tracer):
        raise TypeError(
            f"{name}: expected concrete arrays, got a traced one at {path!r}; matching "
            "assigns on the host, outside of jit and vmap"
        )
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected real floating-point numbers, got {dtype.name} at "
            f"{path!r}; match the real and imaginary parts of complex parameters as "
            "separate leaves"
        )
    bad = np.size(leaf) - int(np.isfinite(np.asarray(leaf)).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite parameters, got {bad} that are NaN or infinite "
            f"at {path!r}"
        )


def _weights_of_leaves(symmetry: Symmetry, leaf_weights: LeafWeights) -> list[float]:
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
        if check_number(f"leaf_weights[{path!r}]", weight) < 0:
            raise ValueError(
                f"leaf_weights[{path!r}]: expected at least 0, got {weight}"
            )
    return [float(leaf_weights.get(path, 1.0)) for path in paths]
