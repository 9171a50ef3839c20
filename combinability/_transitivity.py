"""Transitivity: are networks that were matched to a third one matched to each other?"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from combinability import matching
from combinability._arguments import check_networks, counter
from combinability._barrier import along, height, trace_loss
from combinability._checks import check_count
from combinability._cycles import chance_defect, cycle_defects
from combinability._keys import Key, check_key
from combinability._pairwise import Matcher, Pair, match_pairs
from combinability.symmetry._symmetry import Symmetry

Leaves = list[np.ndarray]


class Transitivity(NamedTuple):
    """Barriers between N networks, and how far matching is from being transitive.

    A barrier is a tree like the metric's value. Matrices are symmetric with a zero
    diagonal.

    Attributes:
        unmatched: barriers between the networks as they were given, (N, N, …).
        direct: barriers when one of the two is matched to the other, (N, N, …).
        through: barriers when both are matched to a reference, as they then stand,
            (references, N, N, …). Where one of the two is the reference itself, this is
            the direct barrier.
        references: the reference of each matrix of `through`.
        cycles: group -> for each triple the fraction of units that the permutations
            i → j → k → i do not bring back; 0 is perfect, (triples,).
        chance: group -> what `cycles` is on average for random permutations.
        triples: i < j < k of each, (triples, 3).
        pairs: i < j of each matching, (pairs, 2).
        permutations: group -> the permutation of j that moves it towards i, of each
            pair, (pairs, *within, size).
    """

    unmatched: PyTree
    direct: PyTree
    through: PyTree
    references: Int[np.ndarray, " references"]
    cycles: dict[str, Float[np.ndarray, " triples"]]
    chance: dict[str, float]
    triples: Int[np.ndarray, "triples 3"]
    pairs: Int[np.ndarray, "pairs 2"]
    permutations: dict[str, Int[np.ndarray, "pairs *within size"]]


def transitivity(
    metric: Callable[[PyTree], PyTree],
    symmetry: Symmetry,
    models: Sequence[PyTree],
    *,
    key: Key,
    match: Matcher = matching.match,
    references: Sequence[int] | None = None,
    points: int = 25,
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Transitivity:
    r"""Barriers between networks that are matched to each other, or through a third.

    With :math:`\pi_{ij}` the permutation that moves network j towards network i, and
    :math:`B` the barrier, for every pair i, j and reference r:

    .. math::

        B(\Theta_i, \Theta_j), \quad
        B(\Theta_i, \pi_{ij}\Theta_j), \quad
        B(\pi_{ri}\Theta_i, \pi_{rj}\Theta_j)

    and for every triple the fraction of units moved by
    :math:`\pi_{ij}\pi_{jk}\pi_{ki}`, which is 0 where matching is transitive. Each pair
    is matched once: :math:`\pi_{ji} = \pi_{ij}^{-1}`. That leaves the inner product of
    the aligned weights as it was, and so is as good a match.

    Args:
        metric: as in `barrier`: greater is worse. It is traced and compiled once.
        symmetry: what may be permuted.
        models: N ≥ 3 networks of one structure.
        key: a PRNG key; each matching gets one of its own.
        match: how a pair is matched: `match(symmetry, a, b, key=key)` gives an object
            with a `permutation`. By default the strongest way from weights alone.
        references: numbers of the networks that others are matched through; by default
            each of them.
        points: points of each way, as in `barrier`.
        batch: points side by side, as in `barrier`.
        progress: called as `progress(done, total)` after each matching and barrier.

    Returns:
        Barriers and cycle defects, as NumPy arrays.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are less than 3 networks, they do not match the symmetry or
            each other, or are not finite, a reference is none of them, or `match` gives
            no permutation.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> x = jnp.array([[0.5, -1.0]])
        >>> symmetry = combinability.infer_symmetry(apply, a, x)
        >>> b = symmetry.apply({"in": jnp.array([1, 2, 0])}, a)
        >>> c = symmetry.apply({"in": jnp.array([2, 1, 0])}, a)
        >>> found = combinability.transitivity(
        ...     lambda variables: jnp.abs(apply(variables, x) - apply(a, x)).mean(),
        ...     symmetry, [a, b, c], key=jax.random.key(0), points=5,
        ... )
        >>> bool(found.unmatched[1, 2] > 0.1), float(found.through[0, 1, 2])
        (True, 0.0)
        >>> found.cycles["in"].tolist(), round(found.chance["in"], 3)
        ([0.0], 0.667)

    References:
        Csiszárik et al., 2023 (arXiv 2308.11511) state that B and C, both matched to A,
        are linearly connected as they stand; the matrices and the defect are ours.
    """
    models = _check_models(symmetry, models)
    numbers = _check_references(references, len(models))
    points, batch = check_count("points", points, 3), check_count("batch", batch, 1)
    pairs = list(itertools.combinations(range(len(models)), 2))
    apart = [(r, i, j) for r in numbers for i, j in pairs if r not in (i, j)]
    done = counter(progress, 3 * len(pairs) + len(apart))
    towards = match_pairs(symmetry, models, match, check_key(key), done)
    loss = trace_loss(metric, models[0])
    losses = along(loss, points, batch)
    move = jax.jit(lambda permutation, model: symmetry.apply(permutation, model))

    def heights(start: PyTree, end: PyTree) -> Leaves:
        found = [height(leaf) for leaf in losses(start, end)]
        done()
        return found

    def moved(i: int, j: int) -> PyTree:
        return move(towards[i, j], models[j])

    unmatched = {(i, j): heights(models[i], models[j]) for i, j in pairs}
    direct = {(i, j): heights(models[i], moved(i, j)) for i, j in pairs}
    through = {(r, i, j): heights(moved(r, i), moved(r, j)) for r, i, j in apart}
    matrices = [
        _matrices({(i, j): through.get((r, i, j), direct[i, j]) for i, j in pairs})
        for r in numbers
    ]
    triples, cycles = cycle_defects(symmetry, towards, len(models))
    rebuild = loss.structure.unflatten
    return Transitivity(
        rebuild(_matrices(unmatched)),
        rebuild(_matrices(direct)),
        rebuild([np.stack(leaves) for leaves in zip(*matrices, strict=True)]),
        np.array(numbers),
        cycles,
        chance_defect(symmetry),
        triples,
        np.array(pairs),
        {
            name: np.stack([np.asarray(towards[pair][name]) for pair in pairs])
            for name in symmetry.groups
        },
    )


def _matrices(heights: Mapping[Pair, Leaves]) -> Leaves:
    """For each leaf the symmetric matrix of what is known of each pair i < j."""
    n = 1 + max(j for _, j in heights)
    matrices = [np.zeros((n, n, *leaf.shape)) for leaf in heights[0, 1]]
    for (i, j), leaves in heights.items():
        for matrix, leaf in zip(matrices, leaves, strict=True):
            matrix[i, j] = matrix[j, i] = leaf
    return matrices


def _check_models(symmetry: Symmetry, models: Sequence[PyTree]) -> list[PyTree]:
    if not symmetry.groups:
        raise ValueError("symmetry: expected at least one group, got none to match")
    if not isinstance(models, Sequence):
        raise TypeError(
            f"models: expected a list of networks, got {type(models).__name__}"
        )
    if len(models) < 3:
        raise ValueError(
            f"models: expected at least 3 networks, got {len(models)}; for a pair see "
            "barrier"
        )
    symmetry.check(models[0], "models[0]")
    return check_networks({f"models[{i}]": model for i, model in enumerate(models)})


def _check_references(references: Sequence[int] | None, n: int) -> list[int]:
    if not isinstance(references, Sequence | None):
        raise TypeError(f"references: expected a list of integers, got {references!r}")
    given = range(n) if references is None else references
    numbers = [check_count("references", number, 0) for number in given]
    if not numbers or max(numbers) >= n or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"references: expected different numbers of networks, 0 to {n - 1}, got "
            f"{numbers}"
        )
    return numbers
