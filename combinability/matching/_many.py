"""Many networks matched to a common one."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from combinability._checks import check_any_key, check_count
from combinability.matching._ascent import Ascent
from combinability.matching._match import (
    Groups,
    LeafWeights,
    checked_blocks,
    choose,
    generator,
    race,
    result,
    sweep_orders,
)
from combinability.matching._objective import Objective, plan
from combinability.permutations import compose, identity, invert
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
    models: Iterable[PyTree],
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
    mean of all others, until none improves; the objective never falls. Finally all are
    moved together, so that the first network stays as it was.

    Args:
        symmetry, key, max_sweeps, groups, leaf_weights: as in `weight_matching`.
        models: two or more networks, trees as the symmetry's; may be a generator.
        max_rounds: the largest number of rounds over all networks; 20.

    Raises:
        ValueError, TypeError: if there are fewer than two networks, or as `match`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> found = combinability.match_many(symmetry, [a, b, a], key=jax.random.key(0))
        >>> [permutation["in"].tolist() for permutation in found.permutations]
        [[0, 1, 2], [1, 2, 0], [0, 1, 2]]

    References:
        After Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 3; the start is ours.
    """
    key = check_any_key(key)
    check_count("max_rounds", max_rounds, 0)
    check_count("max_sweeps", max_sweeps, 1)
    models = tuple(models)
    if len(models) < 2:
        raise ValueError(f"models: expected at least 2 networks, got {len(models)}")
    matched, held = choose(symmetry, groups, None)
    terms = plan(symmetry, matched)
    blocks = [
        checked_blocks(symmetry, model, f"models[{number}]", leaf_weights)
        for number, model in enumerate(models)
    ]
    permutations, aligned = [identity(symmetry)], [blocks[0]]
    for number, own in enumerate(blocks[1:]):
        objective = Objective(terms, _mean(aligned), own)
        drawn = jax.random.fold_in(key, number)
        found = race(symmetry, objective, matched, held, drawn, max_sweeps=max_sweeps)
        permutations.append(found.permutation)
        aligned.append(_aligned(objective, found.permutation))
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
                aligned[number] = _aligned(objective, found.permutation)
        history.append(_mean_overlap(aligned))
        if not improved:
            break
    back = invert(symmetry, permutations[0])
    common = [compose(symmetry, back, permutation) for permutation in permutations]
    return ManyMatching(common, history[-1], np.array(history))


def _aligned(objective: Objective, permutation: Mapping[str, Any]) -> Blocks:
    """The blocks of the permuted b."""
    carried = enumerate(objective.plan.carried)
    return [objective.permuted(number, axes, permutation) for number, axes in carried]


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
