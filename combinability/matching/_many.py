"""Many networks matched to a common one."""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from combinability import _permutation
from combinability._checks import check_count
from combinability._keys import check_any_key
from combinability._products import vdot
from combinability.matching._checks import checked_blocks
from combinability.matching._host import Ascent
from combinability.matching._match import match_blocks
from combinability.matching._terms import Plan, plan
from combinability.matching._weights import climb, sweep_orders
from combinability.matching._worth import permuted
from combinability.symmetry._symmetry import Permutation, Symmetry

Blocks = list[Array]


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
) -> ManyMatching:
    r"""Permutes the units of N networks so that all come near to each other.

    .. math::

        \max_{\pi_1 \dots \pi_N} \; \frac{2}{N (N - 1)}
        \sum_{i < j} \langle \pi_i(\theta_i), \pi_j(\theta_j) \rangle

    which brings all networks near to their mean. To begin with, each network is
    matched (`match`) to the mean of those before it. Then, round after round and in
    random order, each is matched (`weight_matching`, from where it stands) to the mean
    of all others, until none improves; each such step is coordinate descent for the
    objective, which never falls. At last all are moved together so that the first
    network is as it was.

    Args:
        symmetry: what may be permuted.
        models: two or more networks, trees as the symmetry's.
        key: a key of `jax.random`.
        max_rounds: the largest number of rounds over all networks.
        max_sweeps: the largest number of sweeps of each matching.

    Returns:
        The permutations, the objective and its history.

    Raises:
        ValueError: if there are fewer than two networks, trees do not match the
            symmetry, parameters are not finite or a number is out of range.
        TypeError: if parameters are not real numbers.

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
        After Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 3; the beginning is
        ours.
    """
    key = check_any_key(key)
    check_count("max_rounds", max_rounds, 0)
    check_count("max_sweeps", max_sweeps, 1)
    if len(models) < 2:
        raise ValueError(f"models: expected two or more networks, got {len(models)}")
    blocks = [
        checked_blocks(symmetry, model, f"models[{number}]")
        for number, model in enumerate(models)
    ]
    key, beginning = jax.random.split(key)
    permutations = _begin(symmetry, blocks, beginning, max_sweeps)
    history = _rounds(plan(symmetry), blocks, permutations, key, max_rounds, max_sweeps)
    back = _permutation.invert(symmetry, permutations[0])
    common = [_permutation.compose(symmetry, back, p) for p in permutations]
    return ManyMatching(common, history[-1], np.array(history))


def _begin(
    symmetry: Symmetry, blocks: Sequence[Blocks], key: PRNGKeyArray, max_sweeps: int
) -> list[Permutation]:
    """Each network matched to the mean of those before it."""
    permutations: list[Permutation] = [_permutation.identity(symmetry)]
    aligned = [blocks[0]]
    for number, parts in enumerate(blocks[1:]):
        drawn = jax.random.fold_in(key, number)
        found = match_blocks(
            symmetry, _mean(aligned), parts, drawn, max_sweeps=max_sweeps
        )
        permutations.append(found.permutation)
        aligned.append(_apply(plan(symmetry), found.permutation, parts))
    return permutations


def _rounds(
    terms: Plan,
    blocks: Sequence[Blocks],
    permutations: list[Permutation],
    key: PRNGKeyArray,
    max_rounds: int,
    max_sweeps: int,
) -> list[float]:
    """Matches each network to the mean of the others; replaces the permutations."""
    aligned = [_apply(terms, p, x) for p, x in zip(permutations, blocks, strict=True)]
    history = [_objective(aligned)]
    for round_key in jax.random.split(key, max_rounds):
        moved = False
        for number in np.asarray(jax.random.permutation(round_key, len(blocks))):
            others = _mean([x for i, x in enumerate(aligned) if i != number])
            drawn = jax.random.fold_in(round_key, number)
            orders = sweep_orders(drawn, len(terms.families), max_sweeps)
            start = Ascent(terms, others, blocks[number], permutations[number])
            found = climb(start, orders)
            if float(found.objective) > float(found.history[0]):
                moved = True
                permutations[number] = found.permutation
                aligned[number] = _apply(terms, found.permutation, blocks[number])
        history.append(_objective(aligned))
        if not moved:
            break
    return history


def _apply(terms: Plan, permutation: Permutation, blocks: Blocks) -> Blocks:
    return [permuted(terms, i, part, permutation) for i, part in enumerate(blocks)]


def _mean(networks: Sequence[Blocks]) -> Blocks:
    return [
        functools.reduce(operator.add, parts) / len(parts)
        for parts in zip(*networks, strict=True)
    ]


def _objective(aligned: Sequence[Blocks]) -> float:
    """The mean inner product of two networks."""
    count, total = len(aligned), 0.0
    for parts in zip(*aligned, strict=True):
        whole = functools.reduce(operator.add, parts)
        total += sum(float(vdot(part, whole - part)) for part in parts)
    return total / (count * (count - 1))
