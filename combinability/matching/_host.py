"""Coordinate ascent over groups that asks SciPy for assignments.

What pairs of units are worth is kept, term by term, until something changes that it
depends on: nothing whose neighbours did not change is computed again.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array
from scipy.optimize import linear_sum_assignment

from combinability.matching._indices import present, resolve, spread
from combinability.matching._terms import Plan, Term, Unit
from combinability.matching._worth import block_overlap, term_worth


class Ascent:
    """An assignment of all groups, and what is known of its worth; it only improves.

    Attributes:
        indices: the assignment; arrays are replaced when they change, never written to.
        permutation: the permutation of b that it amounts to, likewise.
    """

    def __init__(
        self,
        plan: Plan,
        a: Sequence[Array],
        b: Sequence[Array],
        start: Mapping[str, Any],
    ):
        self.plan, self.a, self.b = plan, a, b
        self._host = [np.asarray(x) for x in a], [np.asarray(x) for x in b]
        self.indices = spread(plan, start, np)
        self.permutation = resolve(plan, self.indices)
        self.noise = 2 * float(np.finfo(a[0].dtype).eps)
        # Term -> what it depended on, and its value then.
        self._known: dict[Term, tuple[tuple[np.ndarray, ...], Array]] = {}

    def run(self, orders: np.ndarray) -> np.ndarray:
        """Sweeps over the families until none improves.

        Args:
            orders: for each sweep the order of the families.

        Returns:
            The objective at the start and after each sweep.
        """
        history = [self.objective(range(len(self.a)))]
        for order in orders:
            gains = [self.improve(self.plan.families[family]) for family in order]
            history.append(history[-1] + sum(gains))
            if not any(gains):
                break
        return np.array(history)

    def improve(self, family: Sequence[Unit]) -> float:
        """Assigns each group of a family anew where it must; gives what that gained."""
        return sum(self._assign(u) for u in family if not all(map(self._kept, u.terms)))

    def objective(self, blocks: Iterable[int]) -> float:
        """The inner product of a and the permuted b over blocks."""
        a, b = self._host
        return sum(
            float(block_overlap(self.plan, number, a, b, self.permutation))
            for number in blocks
        )

    def worth(self, terms: Sequence[Term]) -> np.ndarray:
        """What each pair of units is worth by some terms of a group."""
        values = [self._value(term) for term in terms]
        return functools.reduce(np.add, map(np.asarray, values))

    def assign(self, name: str, index: np.ndarray) -> None:
        """Assigns one group."""
        self.indices[name] = index
        for other, new in resolve(self.plan, self.indices).items():
            if not np.array_equal(new, self.permutation[other]):
                self.permutation[other] = new

    def _assign(self, unit: Unit) -> float:
        worth, old = self.worth(unit.terms), self.indices[unit.name]
        new = best(worth)
        before, after = chosen(worth, old).sum(-1), chosen(worth, new).sum(-1)
        gains = after - before
        better = gains > self.noise * np.abs(chosen(worth, new)).sum(-1)
        if not better.any():
            return 0.0
        index = np.where(better[..., None], new, old)
        if not unit.exact:
            return self._try(unit, index)
        self.assign(unit.name, index)
        rows = present(unit, self.plan, self.permutation)
        return float(np.where(better, gains, 0.0)[rows].sum())

    def _try(self, unit: Unit, index: np.ndarray) -> float:
        """Keeps an assignment that a linear approximation proposes if it is better."""
        blocks = sorted({term.block for term in unit.terms})
        old, before = self.indices[unit.name], self.objective(blocks)
        self.assign(unit.name, index)
        gain = self.objective(blocks) - before
        if gain > self.noise * abs(before):
            return gain
        self.assign(unit.name, old)
        return 0.0

    def _kept(self, term: Term) -> bool:
        known = self._known.get(term)
        return known is not None and all(
            x is y for x, y in zip(known[0], self._depends(term), strict=True)
        )

    def _depends(self, term: Term) -> tuple[np.ndarray, ...]:
        return (
            *(self.permutation[move.name] for move in term.before),
            *(self.indices[name] for name in term.partners),
        )

    def _value(self, term: Term) -> Array:
        if not self._kept(term):
            value = term_worth(term, self.a, self.b, self.permutation, self.indices)
            self._known[term] = self._depends(term), value
        return self._known[term][1]


def best(worth: np.ndarray) -> np.ndarray:
    """The best assignment of the last two axes, for each index of the others."""
    found = [
        linear_sum_assignment(matrix, maximize=True)[1]
        for matrix in worth.reshape(-1, *worth.shape[-2:])
    ]
    return np.array(found, np.int32).reshape(worth.shape[:-1])


def chosen(worth: np.ndarray, index: np.ndarray) -> np.ndarray:
    """What each unit's pair is worth, in float64."""
    pairs = np.take_along_axis(worth, index[..., None], axis=-1)
    return pairs[..., 0].astype(np.float64)


def harden(plan: Plan, worth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The best permutation by what pairs are worth, each group by itself.

    Args:
        plan: the groups.
        worth: for each group (*pairs, size, size).
    """
    permutation: dict[str, np.ndarray] = {}
    for unit in (unit for family in plan.families for unit in reversed(family)):
        rows = present(unit, plan, permutation)
        permutation[unit.name] = best(worth[unit.name][rows])
    return permutation
