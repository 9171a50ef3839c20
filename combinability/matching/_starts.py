"""Where coordinate ascent may start: from the sides, signatures or soft assignments.

Each function takes the objective and the permutation of the groups that are held fixed,
and returns a permutation or an `Ascent`.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from combinability.matching._ascent import Ascent, best, harden
from combinability.matching._objective import (
    GroupTerms,
    Indices,
    Objective,
    Term,
    contract,
    multiply,
    one_hot,
    spread,
)
from combinability.symmetry._symmetry import Symmetry

# Temperatures of annealing, relative to the score of a unit paired with itself: above
# the first little is decided, below the last little is open.
_FIRST, _LAST = 0.1, 0.005
_PROJECTIONS = 10


def pinned_sides(objective: Objective, held: Mapping[str, Any]) -> Ascent:
    """Assign the groups that touch inputs and outputs first, then inwards.

    A group is assigned by the blocks whose other groups have been assigned already;
    next comes the group of whose weights these blocks hold the greatest share. Groups
    that nothing leads to stay.
    """
    ascent, left = Ascent(objective, held), objective.plan.matched

    def ready(group: GroupTerms) -> list[Term]:
        return [
            term
            for term in group.terms
            if left.keys().isdisjoint([n for n, _ in term.permuted])
            and left.keys().isdisjoint(term.partners)
        ]

    def share(name: str) -> float:
        whole, part = (
            sum(objective.magnitudes[term.block] for term in terms)
            for terms in (left[name].terms, ready(left[name]))
        )
        return part / max(whole, 1e-30)

    while left:
        name = max(left, key=share)
        if share(name) == 0:
            break
        ascent.assign(name, best(ascent.scores(ready(left[name]))))
        del left[name]
    return ascent


def signatures(
    symmetry: Symmetry, objective: Objective, held: Mapping[str, Any]
) -> Indices:
    """Pair units whose weights agree, whatever the order of the other units.

    The signatures of a unit are, for each block, its weights, and its inner products
    with the other units of its group, each sorted: permutations of the other groups and
    of its own do not change them. The sum of squared differences is minimal.
    """
    scores: Indices = {}
    for name, group in objective.plan.matched.items():
        pairs = zip(
            _signatures(symmetry, group, objective.a),
            _signatures(symmetry, group, objective.b),
            strict=True,
        )
        outer = [(p in symmetry.groups) for p in symmetry.groups[name].within]
        a = "abcdefgh"[: len(outer)]
        b = "".join(c.upper() if free else c for c, free in zip(a, outer, strict=True))
        out = "".join(x if x == y else x + y for x, y in zip(a, b, strict=True))
        products = (contract(f"{a}iz,{b}jz->{out}ij", x, y) for x, y in pairs)
        scores[name] = functools.reduce(np.add, products)
    return harden(objective.plan, scores, held)


def _signatures(
    symmetry: Symmetry, group: GroupTerms, blocks: Sequence[np.ndarray]
) -> Iterator[Float[np.ndarray, "*within n features"]]:
    """Two for each term: sorted weights, and sorted inner products of units."""
    for term in group.terms:
        labels = symmetry.blocks[term.block].labels
        block = blocks[term.block]
        parents = symmetry.groups[group.name].within
        own = [*map(labels.index, parents), labels.index(group.name)]
        rest = [i for i in range(block.ndim) if i not in own]
        kept = [i for i in rest if labels[i] not in symmetry.groups]
        mixed = [i for i in rest if labels[i] in symmetry.groups]
        block = block.transpose(own + kept + mixed)
        units = block.shape[: len(own)]
        width = math.prod(block.shape[block.ndim - len(mixed) :])
        flat = block.reshape(*units, -1)
        yield _centred(np.sort(flat.reshape(*units, -1, width)).reshape(flat.shape))
        products = np.sort(multiply(flat, flat.swapaxes(-1, -2)))
        scale = np.sqrt((products**2).sum() / max((flat**2).sum(), 1e-30))
        yield _centred(products / max(scale, 1e-30))


def _centred(features: np.ndarray) -> np.ndarray:
    """Subtract what all units have in common, which does not distinguish them."""
    axes = tuple(range(features.ndim - 1))
    return features - features.mean(axis=axes, keepdims=True)


def annealed(relaxed: Objective, held: Mapping[str, Any], steps: int) -> Indices:
    """Soft assignments of all groups at once, which harden slowly.

    The assignments are relaxed to doubly stochastic matrices X; at first all entries
    are equal. With E the scores of a group, the other groups being as soft as they are,
    and T the temperature, X becomes the Sinkhorn projection of exp(E / T), group by
    group, while T falls. What is known enters at the pinned axes and spreads, weighted
    by its certainty. The objective has a relaxed plan.

    References:
        Softassign: Gold and Rangarajan, 1996, here for all groups of a network at once.
    """
    dtype = relaxed.b[0].dtype
    soft = {n: one_hot(x, dtype) for n, x in spread(relaxed.plan, held).items()}
    matched, scale = relaxed.plan.matched, {}
    for name, group in matched.items():
        soft[name] = np.full(group.shape, 1 / group.shape[-1], dtype)
        units = group.shape[-1] * math.prod(relaxed.plan.groups[name].blocks)
        total = sum(relaxed.magnitudes[term.block] for term in group.terms)
        scale[name] = total / units or 1.0
    for temperature in np.geomspace(_FIRST, _LAST, steps):
        for name, group in matched.items():
            scores = relaxed.total(
                group.terms, lambda term: relaxed.scores(term, {}, soft)
            )
            soft[name] = _project(scores / dtype.type(temperature * scale[name]))
    return harden(relaxed.plan, soft, held)


def _project(logits: np.ndarray) -> Float[np.ndarray, "*pairs n n"]:
    """A doubly stochastic matrix: exp(logits) with rows and columns rescaled."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    matrix = np.exp(logits - logits.max(axis=-2, keepdims=True))
    tiny = np.finfo(matrix.dtype).tiny
    rows = np.ones(matrix.shape[:-1], matrix.dtype)
    for _ in range(_PROJECTIONS):
        columns = 1 / (np.einsum("...ij,...i->...j", matrix, rows) + tiny)
        rows = 1 / (np.einsum("...ij,...j->...i", matrix, columns) + tiny)
    matrix = matrix * rows[..., None]
    return matrix / (matrix.sum(axis=-2, keepdims=True) + tiny)
