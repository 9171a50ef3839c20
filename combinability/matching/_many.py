"""Many networks matched to a common one."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from combinability import _permutation
from combinability._checks import check_any_key, check_count
from combinability.matching._ascent import Ascent
from combinability.matching._match import (
    Groups,
    LeafWeights,
    checked_blocks,
    choose,
    generator,
    match_blocks,
    result,
    sweep_orders,
)
from combinability.matching._objective import Objective, plan
from combinability.symmetry._symmetry import Symmetry

Blocks = list[np.ndarray]


class ManyMatching(NamedTuple):
    """Permutations that move many networks towards each other.

    Attributes:
        permutations: for each network its permutation, for `Symmetry.apply`; that of
            the first moves nothing.
        objective: the mean over all pairs of networks of the inner product of their
            aligned weights, over all arrays that carry a group.
        history: the objective at the start and after each round over the networks.
    """

    permutations: list[dict[str, Int[Array, "*within size"]]]
    objective: float
    history: Float[np.ndarray, " rounds_and_start"]


def match_many(
    symmetry: Symmetry,
    models: Sequence[PyTree],
    *,
    key: PRNGKeyArray,
    max_rounds: int = 20,
    max_sweeps: int = 100,
    groups: Groups | None = None,
    leaf_weights: LeafWeights | None = None,
) -> ManyMatching:
    r"""Permute the units of N networks so that all come close to each other.

    .. math::

        \max_{\pi_1 \dots \pi_N} \; \frac{2}{N (N - 1)}
        \sum_{i < j} \langle \pi_i(\theta_i), \pi_j(\theta_j) \rangle

    which brings all networks close to their mean. First each network is matched
    (`match`) to the mean of those before it. Then, round after round and in random
    order, each is matched by coordinate ascent, from its present permutation, to the
    mean of all others, until none improves; the objective never falls. At last all are
    moved together so that the first network is as it was.

    Args:
        symmetry: what can be permuted.
        models: two or more networks, trees as the symmetry's.
        key: a key of `jax.random`.
        max_rounds: the largest number of rounds over all networks; 20.
        max_sweeps: the largest number of sweeps of each matching; 100.
        groups: the groups to match, as for `match`; the others stay.
        leaf_weights: weights of leaves in the objective, as for `match`.

    Returns:
        The permutations, the objective and its history.

    Raises:
        ValueError: if there are fewer than two networks, or as for `match`.
        TypeError: as for `match`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> moved = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> matching = combinability.match_many(
        ...     symmetry, [a, moved, a], key=jax.random.key(0)
        ... )
        >>> [permutation["in"].tolist() for permutation in matching.permutations]
        [[0, 1, 2], [1, 2, 0], [0, 1, 2]]

    References:
        After Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 3; where it starts is
        ours.
    """
    key = check_any_key(key)
    check_count("max_rounds", max_rounds, 0)
    check_count("max_sweeps", max_sweeps, 1)
    if len(models) < 2:
        raise ValueError(f"models: expected at least 2 networks, got {len(models)}")
    choice = choose(symmetry, groups, None)
    terms = plan(symmetry, choice.matched)
    blocks = [
        checked_blocks(symmetry, model, f"models[{number}]", leaf_weights)
        for number, model in enumerate(models)
    ]
    permutations, aligned = [_permutation.identity(symmetry)], [blocks[0]]
    for number, own in enumerate(blocks[1:]):
        objective = Objective(terms, _mean(aligned), own)
        drawn = jax.random.fold_in(key, number)
        found = match_blocks(symmetry, objective, drawn, choice, max_sweeps=max_sweeps)
        permutations.append(found.permutation)
        aligned.append(objective.aligned(found.permutation))
    rng, history = generator(key), [_mean_overlap(aligned)]
    orders = sweep_orders(rng, terms, max_sweeps)
    for _ in range(max_rounds):
        improved = False
        for number in rng.permutation(len(blocks)):
            others = [x for i, x in enumerate(aligned) if i != number]
            objective = Objective(terms, _mean(others), blocks[number])
            found = result(Ascent(objective, permutations[number]).run(orders))
            if float(found.objective) > float(found.history[0]):
                improved = True
                permutations[number] = found.permutation
                aligned[number] = objective.aligned(found.permutation)
        history.append(_mean_overlap(aligned))
        if not improved:
            break
    back = _permutation.invert(symmetry, permutations[0])
    common = [_permutation.compose(symmetry, back, p) for p in permutations]
    return ManyMatching(common, history[-1], np.array(history))


def _mean(networks: Sequence[Blocks]) -> Blocks:
    stacked = zip(*networks, strict=True)
    return [functools.reduce(np.add, parts) / len(parts) for parts in stacked]


def _mean_overlap(aligned: Sequence[Blocks]) -> float:
    """The mean inner product of two networks."""
    count, total = len(aligned), 0.0
    for parts in zip(*aligned, strict=True):
        whole = functools.reduce(np.add, parts)
        total += sum(float(np.vdot(part, whole - part)) for part in parts)
    return total / (count * (count - 1))
