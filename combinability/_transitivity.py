"""Transitivity: are networks that were matched to a third one matched to each other?"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from combinability import matching
from combinability._barrier import barrier
from combinability._checks import Key, check_bijections, check_count, check_key
from combinability._combine import check_networks
from combinability._cycles import Pair, chance_defect, cycle_defects
from combinability._permutation import Permutations, identity, invert
from combinability._robustness import permuted
from combinability.matching._match import Matching
from combinability.symmetry._symmetry import Symmetry


class Matcher(Protocol):
    """How two networks are matched, as by `match` or `weight_matching`."""

    def __call__(
        self, symmetry: Symmetry, a: PyTree, b: PyTree, *, key: Key
    ) -> Matching:
        """Return the permutation of b towards a."""
        ...


class Transitivity(NamedTuple):
    """Barriers between N networks, and how far matching is from being transitive.

    A barrier is a tree like the metric's value; smaller is better. Matrices are
    symmetric with a zero diagonal.

    Attributes:
        unmatched: barriers between the networks as they were given, (N, N, …).
        direct: barriers when one of the two is matched to the other, (N, N, …).
        through: barriers when both are matched to a reference,
            (references, N, N, …). Where one of the two is the reference itself, this is
            the direct barrier.
        references: the reference of each matrix of `through`.
        cycles: group -> for each triple the fraction of units that the permutations
            i → j → k → i do not bring back; 0 is perfect, (triples,).
        chance: group -> the mean of `cycles` for random permutations.
        triples: i < j < k of each, (triples, 3).
        pairs: i < j of each matching, (pairs, 2).
        permutations: group -> the permutation of j towards i, of each pair,
            (pairs, *within, size).
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
    metric: Callable[..., PyTree],
    symmetry: Symmetry,
    models: Sequence[PyTree],
    *,
    key: Key,
    match: Matcher = matching.match,
    references: Sequence[int] | None = None,
    points: int = 25,
    args: Sequence[PyTree] = (),
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Transitivity:
    r"""Return barriers between networks matched to each other, or through a third.

    With :math:`\pi_{ij}` the permutation of network j towards network i, and
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
        metric: a loss, as in `barrier`. Compiled once.
        symmetry: what may be permuted.
        models: N ≥ 3 networks of one structure.
        key: a PRNG key; each matching gets one of its own.
        match: how two networks are matched: `match(symmetry, a, b, key=key)` returns an
            object with a `permutation`. By default `match`, from weights only.
        references: numbers of the networks that others are matched through; by default
            each of them.
        points: points of each segment, as in `barrier`.
        args: further arguments of the metric, as in `evaluate`.
        batch_size: points that are vmapped together, as in `evaluate`.
        progress: called as `progress(done, total)` after each matching and barrier.

    Returns:
        Barriers and cycle defects, as NumPy arrays.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are fewer than 3 networks, they do not match the symmetry
            or each other, or are not finite, a reference is none of them, or `match`
            returns no permutation.

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
    n = len(models)
    references = _check_references(references, n)
    check_count("points", points, 3)
    pairs = list(itertools.combinations(range(n), 2))
    apart = [(r, i, j) for r in references for i, j in pairs if r not in (i, j)]
    total, count = 3 * len(pairs) + len(apart), itertools.count(1)

    def done():
        if progress is not None:
            progress(next(count), total)

    towards = _match_pairs(symmetry, models, match, check_key(key), done)

    def height(start: PyTree, end: PyTree) -> PyTree:
        found = barrier(
            metric, start, end, points=points, args=args, batch_size=batch_size
        ).height
        done()
        return found

    def moved(i: int, j: int) -> PyTree:
        return permuted(symmetry, towards[i, j], models[j])

    unmatched = {(i, j): height(models[i], models[j]) for i, j in pairs}
    direct = {(i, j): height(models[i], moved(i, j)) for i, j in pairs}
    through = {(r, i, j): height(moved(r, i), moved(r, j)) for r, i, j in apart}
    matrices = [
        _matrix(n, {(i, j): through.get((r, i, j), direct[i, j]) for i, j in pairs})
        for r in references
    ]
    triples, cycles = cycle_defects(symmetry, towards, n)
    return Transitivity(
        _matrix(n, unmatched),
        _matrix(n, direct),
        jax.tree.map(lambda *leaves: np.stack(leaves), *matrices),
        np.array(references),
        cycles,
        chance_defect(symmetry),
        triples,
        np.array(pairs),
        {
            name: np.stack([np.asarray(towards[pair][name]) for pair in pairs])
            for name in symmetry.groups
        },
    )


def _matrix(n: int, heights: Mapping[Pair, PyTree]) -> PyTree:
    """The symmetric matrix of a value for each pair i < j, leaf by leaf."""

    def of_leaves(*leaves):
        matrix = np.zeros((n, n, *leaves[0].shape))
        for (i, j), leaf in zip(heights, leaves, strict=True):
            matrix[i, j] = matrix[j, i] = leaf
        return matrix

    return jax.tree.map(of_leaves, *heights.values())


_inverse = functools.partial(jax.jit, static_argnums=0)(invert)


def _match_pairs(
    symmetry: Symmetry,
    models: Sequence[PyTree],
    match: Matcher,
    key: Key,
    done: Callable[[], None],
) -> dict[Pair, Permutations]:
    """Return for each i, j the permutation of j towards i.

    Pairs i < j are matched, the others have the inverse permutations. `done` is called
    after each matching.
    """
    still = check_bijections(symmetry, identity(symmetry), "identity")
    towards = {(i, i): still for i in range(len(models))}
    pairs = list(itertools.combinations(range(len(models)), 2))
    for (i, j), own in zip(pairs, jax.random.split(key, len(pairs)), strict=True):
        found = match(symmetry, models[i], models[j], key=own)
        permutation = getattr(found, "permutation", None)
        if not isinstance(permutation, Mapping):
            raise TypeError(
                "match: expected it to return an object with a dict `permutation`, as "
                f"weight_matching does, got {found!r}"
            )
        given = check_bijections(symmetry, permutation, "match: permutation")
        towards[i, j] = {**still, **given}
        towards[j, i] = _inverse(symmetry, towards[i, j])
        done()
    return towards


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
