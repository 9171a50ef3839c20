"""Where coordinate descent may start: from the sides, or from signatures of units."""

import functools
import math
import operator
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from combinability._products import einsum
from combinability.matching._host import Ascent, best, harden
from combinability.matching._terms import Plan, Term, Unit
from combinability.symmetry._symmetry import Symmetry

Start = dict[str, Int[np.ndarray, "*within n"]]


def pinned_sides(plan: Plan, a: Sequence[Array], b: Sequence[Array]) -> Ascent:
    """Assigns first what touches the inputs and outputs, then inwards.

    A group is assigned by the blocks whose other groups have been assigned already;
    next comes the group of whose weights these blocks hold the greatest share. Groups
    that nothing leads to stay.

    Args:
        plan: the terms of the groups.
        a: the blocks of a.
        b: the blocks of b.

    Returns:
        The assignment, which keeps what it has computed.
    """
    ascent = Ascent(plan, a, b, {})
    size = [
        math.sqrt(float(np.vdot(x, x)) * float(np.vdot(y, y)))
        for x, y in zip(a, b, strict=True)
    ]
    left = dict(plan.units)
    while left:
        ready = {name: _ready(unit, left) for name, unit in left.items()}
        share = {
            name: _total(size, ready[name]) / max(_total(size, unit.terms), 1e-30)
            for name, unit in left.items()
        }
        name = max(share, key=share.__getitem__)
        if share[name] == 0:
            break
        ascent.assign(name, best(ascent.worth(ready[name])))
        del left[name]
    return ascent


def signatures(
    symmetry: Symmetry, plan: Plan, a: Sequence[Array], b: Sequence[Array]
) -> Start:
    """Pairs units whose weights look alike in whatever order the other units are.

    The signatures of a unit are, for each block, its weights, and its inner products
    with the other units of its group, each sorted: permutations of the other groups and
    of its own do not change them. Sums of squared differences are least.

    Args:
        symmetry: the blocks and groups.
        plan: the terms of the groups.
        a: the blocks of a.
        b: the blocks of b.
    """
    worth = {}
    for name, unit in plan.units.items():
        mine = _signatures(symmetry, unit, a), _signatures(symmetry, unit, b)
        products = (_pairs(unit, x, y) for x, y in zip(*mine, strict=True))
        worth[name] = np.asarray(functools.reduce(operator.add, products))
    return harden(plan, worth)


def _ready(unit: Unit, left: Collection[str]) -> list[Term]:
    """The terms that depend on nothing that is left to be assigned."""
    return [
        term
        for term in unit.terms
        if not any(move.name in left for move in term.before)
        and not any(name in left for name in term.partners)
    ]


def _total(size: Sequence[float], terms: Sequence[Term]) -> float:
    return sum(size[term.block] for term in terms)


def _signatures(
    symmetry: Symmetry, unit: Unit, parts: Sequence[Array]
) -> Iterator[Float[np.ndarray, "*within n features"]]:
    """Two for each term: sorted weights, and sorted inner products of units."""
    parents = [name for name, _, _ in unit.within]
    for term in unit.terms:
        labels = symmetry.blocks[term.block].labels
        part = np.asarray(parts[term.block])
        own = [*map(labels.index, parents), labels.index(unit.name)]
        rest = [i for i in range(part.ndim) if i not in own]
        kept = [i for i in rest if labels[i] not in symmetry.groups]
        mixed = [i for i in rest if labels[i] in symmetry.groups]
        part = part.transpose(own + kept + mixed)
        shape = part.shape[: len(own)]
        weights = part.reshape(
            *shape, -1, math.prod(part.shape[len(own) + len(kept) :])
        )
        yield _centred(np.sort(weights, axis=-1).reshape(*shape, -1))
        flat = weights.reshape(*shape, -1)
        products = np.sort(flat @ flat.swapaxes(-1, -2), axis=-1)
        scale = np.sqrt((products**2).sum() / max((flat**2).sum(), 1e-30))
        yield _centred(products / max(scale, 1e-30))


def _pairs(unit: Unit, of_a: np.ndarray, of_b: np.ndarray) -> Array:
    """The inner products of signatures, for each pair of units and of their parents."""
    a = [*range(len(unit.within))]
    b = [
        i + (10 if free else 0) for i, (_, _, free) in zip(a, unit.within, strict=True)
    ]
    out = sorted({*a, *b}, key=lambda axis: (axis % 10, axis))
    return einsum(of_a, [*a, 20, 22], of_b, [*b, 21, 22], [*out, 20, 21])


def _centred(features: np.ndarray) -> np.ndarray:
    """Without what all units have in common, which decides nothing."""
    axes = tuple(range(features.ndim - 1))
    return features - features.mean(axis=axes, keepdims=True)
