"""Transitivity: are networks that were matched to a third one matched to each other?"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from combinability import matching
from combinability._barrier import barriers
from combinability._checks import (
    Key,
    check_arguments,
    check_bijections,
    check_count,
    check_key,
)
from combinability._combine import check_networks
from combinability._robustness import permuted, stacked
from combinability.permutations import compose, identity, invert
from combinability.symmetry._indexing import at_parents
from combinability.symmetry._symmetry import Permutation, Symmetry


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
            i → j → k → i do not bring back; 0 is perfect.
        chance: group -> the mean of `cycles` for random permutations.
        triples: i < j < k of each.
        pairs: i < j of each matching.
        permutations: group -> the permutation of j towards i, of each pair.
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
    match: Callable[..., Any] = matching.match,
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
        metric, points, args, batch_size: as in `barrier`.
        symmetry: what may be permuted.
        models: N ≥ 3 networks of one structure.
        key: a PRNG key; each matching gets one of its own.
        match: how two networks are matched: `match(symmetry, a, b, key=key)` returns an
            object with a `permutation`. By default `match`, from weights only.
        references: numbers of the networks that others are matched through; by default
            each of them.
        progress: called as `progress(done, total)` after each matching and barrier.

    Raises:
        ValueError, TypeError: if there are fewer than 3 networks, they do not match the
            symmetry, a reference is none of them, `match` returns no permutation, or
            as `evaluate`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> x = jnp.array([[0.5, -1.0]])
        >>> symmetry = combinability.infer_symmetry(apply, a, x)
        >>> b = symmetry.apply({"in": jnp.array([1, 2, 0])}, a)
        >>> c = symmetry.apply({"in": jnp.array([2, 1, 0])}, a)
        >>> found = combinability.transitivity(
        ...     lambda v: jnp.abs(apply(v, x) - apply(a, x)).mean(),
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
    n, references = len(models), _check_references(references, len(models))
    check_count("points", points, 3)
    args = check_arguments("args", args)
    pairs = list(itertools.combinations(range(n), 2))
    # Barriers of pairs as they are (None), and with both moved towards network r. With
    # one of them as r that is the direct barrier.
    as_given = [(None, i, j) for i, j in pairs]
    directly = [(i, i, j) for i, j in pairs]
    apart = [(r, i, j) for r in references for i, j in pairs if r not in (i, j)]
    wanted = [*as_given, *directly, *apart]
    total, count = len(pairs) + len(wanted), itertools.count(1)

    def done():
        if progress is not None:
            progress(next(count), total)

    towards = _towards(symmetry, models, pairs, match, check_key(key), done)

    def moved(r: int | None, i: int) -> PyTree:
        if r is None or r == i:
            return models[i]
        return permuted(symmetry, towards[r, i], models[i])

    def ends():
        for r, i, j in wanted:
            yield moved(r, i), moved(r, j), *args
            done()

    heights = barriers(metric, ends(), points=points, batch_size=batch_size).height

    def matrix(barriers_of_pairs: list) -> PyTree:
        rows = [wanted.index(one) for one in barriers_of_pairs]
        return jax.tree.map(lambda leaf: _symmetric(leaf[rows], pairs, n), heights)

    through = [
        matrix([(i if r in (i, j) else r, i, j) for i, j in pairs]) for r in references
    ]
    triples = list(itertools.combinations(range(n), 3))
    cycles = [
        _cycle_defect(symmetry, towards[i, j], towards[j, k], towards[k, i])
        for i, j, k in triples
    ]
    return Transitivity(
        matrix(as_given),
        matrix(directly),
        stacked(through),
        np.array(references),
        stacked(cycles),
        _chance_defect(symmetry),
        np.array(triples),
        np.array(pairs),
        stacked([towards[pair] for pair in pairs]),
    )


def _check_models(symmetry: Symmetry, models: Sequence[PyTree]) -> list[PyTree]:
    if not isinstance(models, Sequence):
        raise TypeError(f"models: expected a list of networks, got {type(models)}")
    if len(models) < 3:
        raise ValueError(
            f"models: expected at least 3 networks, got {len(models)}; for a pair see "
            "barrier"
        )
    symmetry.check(models[0], "models[0]")
    return check_networks({f"models[{i}]": model for i, model in enumerate(models)})


def _towards(
    symmetry: Symmetry,
    models: Sequence[PyTree],
    pairs: Sequence[tuple[int, int]],
    match: Callable[..., Any],
    key: Key,
    done: Callable[[], None],
) -> dict[tuple[int, int], Permutation]:
    """For each i, j the permutation of j towards i; each pair is matched once."""
    still = check_bijections(symmetry, identity(symmetry), "identity")
    towards = {}
    keys = jax.random.split(key, len(pairs))
    for (i, j), own in zip(pairs, keys, strict=True):
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


def _symmetric(
    values: Float[np.ndarray, "pairs *rest"], pairs: Sequence[tuple[int, int]], n: int
) -> Float[np.ndarray, "n n *rest"]:
    """The symmetric matrix with a zero diagonal that has these values at i, j."""
    first, second = np.transpose(pairs)
    found = np.zeros((n, n, *values.shape[1:]))
    found[first, second] = found[second, first] = values
    return found


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
        ValueError: if there is no permutation, or as `permutations.compose`.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> v = {"in": jnp.ones((2, 4)), "out": jnp.ones((4, 1))}
        >>> symmetry = combinability.infer_symmetry(apply, v, jnp.ones((1, 2)))
        >>> turn = {"in": jnp.array([1, 2, 3, 0])}
        >>> float(combinability.cycle_defect(symmetry, turn, turn, turn, turn)["in"])
        0.0
        >>> swap = {"in": jnp.array([1, 0, 2, 3])}
        >>> float(combinability.cycle_defect(symmetry, swap)["in"])
        0.5
    """
    if not permutations:
        raise ValueError("permutations: expected at least one, got none")
    around, groups = identity(symmetry), symmetry.groups
    for step in permutations:
        around = compose(symmetry, around, step)
    moved: dict[str, Bool[Array, "*within size"]] = {}
    for name in sorted(groups, key=lambda n: len(groups[n].within)):
        moved[name] = around[name] != jnp.arange(groups[name].size)
        inherited = at_parents(groups, moved, name)
        for parent, parent_moved in zip(groups[name].within, inherited, strict=True):
            if parent in groups:
                moved[name] |= parent_moved
    return {name: moved[name].mean() for name in groups}


def _chance_defect(symmetry: Symmetry) -> dict[str, float]:
    """Return the expected cycle defect of uniformly random permutations, by group.

    A unit of n stays with probability 1/n, if the units that it lies within do:
    1 − 1/(n · units of its parents that may be permuted).
    """
    sizes = {name: group.size for name, group in symmetry.groups.items()}
    return {
        name: 1 - 1 / (group.size * math.prod(sizes.get(p, 1) for p in group.within))
        for name, group in symmetry.groups.items()
    }


_cycle_defect = jax.jit(cycle_defect, static_argnums=0)
_inverse = jax.jit(invert, static_argnums=0)


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
