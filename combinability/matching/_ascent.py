"""Coordinate ascent: each group in turn gets its best assignment, others as they are.

The terms of the scores are kept until an assignment that they depend on changes, and a
group none of whose terms changed is not assigned again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from combinability.matching._objective import (
    GroupTerms,
    Objective,
    Plan,
    Term,
    matched_pairs,
    one_hot,
    resolve,
    spread,
)


class Ascent:
    """An assignment of all groups that only improves.

    Index arrays, of the assignment and of the permutation that it amounts to, are
    replaced when they change, never written to. The history is the objective at the
    start and after each sweep; finished is an ascent whose last sweep improved nothing.
    """

    def __init__(self, objective: Objective, start: Mapping[str, Any]):
        self.objective, self.plan = objective, objective.plan
        self.indices = spread(self.plan, start)
        self.permutation = resolve(self.plan, self.indices)
        self.history: list[float] = []
        self.finished = False
        self._noise = 2 * float(np.finfo(objective.b[0].dtype).eps)
        # Term -> the index arrays that it depended on, and its value then.
        self._known: dict[Term, tuple[tuple[np.ndarray, ...], Any]] = {}

    def run(self, orders: np.ndarray, sweeps: int | None = None) -> "Ascent":
        """Sweep over the families, in the next of some orders, until none improves.

        `sweeps` limits the sweeps of this call.
        """
        if not self.history:
            self.history.append(self.objective.value(self.permutation))
        done = len(self.history) - 1
        for order in orders[done : None if sweeps is None else done + sweeps]:
            if self.finished:
                break
            groups = (group for i in order for group in self.plan.families[i])
            gains = [self._improve(group) for group in groups]
            self.history.append(self.history[-1] + sum(gains))
            self.finished = not any(gains)
        return self

    def scores(self, terms: Sequence[Term]) -> np.ndarray:
        """The scores of a group by some of its terms."""
        objective, dtype = self.objective, self.objective.b[0].dtype
        for term in terms:
            if not self._is_known(term):
                matrices = {n: one_hot(self.indices[n], dtype) for n in term.partners}
                value = None
                if not term.constant:
                    value = objective.scores(term, self.permutation, matrices)
                self._known[term] = self._inputs(term), value
        return objective.total(terms, lambda term: self._known[term][1])

    def assign(self, name: str, index: np.ndarray) -> None:
        """Assign one group."""
        self.indices[name] = index
        for other, new in resolve(self.plan, self.indices).items():
            if not np.array_equal(new, self.permutation[other]):
                self.permutation[other] = new

    def _improve(self, group: GroupTerms) -> float:
        """Assign a group anew unless no term changed; return the gain."""
        if all(map(self._is_known, group.terms)):
            return 0.0
        scores, old = self.scores(group.terms), self.indices[group.name]
        new = best(scores)
        after = chosen(scores, new)
        gains = after.sum(-1) - chosen(scores, old).sum(-1)
        better = gains > self._noise * np.abs(after).sum(-1)
        if not better.any():
            return 0.0
        index = np.where(better[..., None], new, old)
        if not group.exact:
            return self._try(group, index)
        self.assign(group.name, index)
        rows = matched_pairs(self.plan, group.name, self.permutation)
        return float(np.where(better, gains, 0.0)[rows].sum())

    def _try(self, group: GroupTerms, index: np.ndarray) -> float:
        """Keep what a linear approximation proposes if the objective itself rises."""
        blocks = sorted({term.block for term in group.terms})
        old = self.indices[group.name]
        before = self.objective.value(self.permutation, blocks)
        self.assign(group.name, index)
        gain = self.objective.value(self.permutation, blocks) - before
        if gain > self._noise * abs(before):
            return gain
        self.assign(group.name, old)
        return 0.0

    def _inputs(self, term: Term) -> tuple[np.ndarray, ...]:
        return (
            *(self.permutation[name] for name, _ in term.permuted),
            *(self.indices[name] for name in term.partners),
        )

    def _is_known(self, term: Term) -> bool:
        known = self._known.get(term)
        return known is not None and all(
            x is y for x, y in zip(known[0], self._inputs(term), strict=True)
        )


def best(scores: np.ndarray) -> np.ndarray:
    """The best assignment of the last two axes, for each index of the others."""
    found = [
        linear_sum_assignment(matrix, maximize=True)[1]
        for matrix in scores.reshape(-1, *scores.shape[-2:])
    ]
    return np.array(found, np.int32).reshape(scores.shape[:-1])


def chosen(scores: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The score of each unit's pair, in float64."""
    pairs = np.take_along_axis(scores, index[..., None], axis=-1)
    return pairs[..., 0].astype(np.float64)


def harden(
    plan: Plan, scores: Mapping[str, np.ndarray], held: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The best permutation by scores shaped as X, each group by itself.

    `held` is the permutation of the groups that are not matched.
    """
    permutation = resolve(plan, spread(plan, held))
    for group in (group for family in plan.families for group in reversed(family)):
        if group.terms:
            rows = matched_pairs(plan, group.name, permutation)
            permutation[group.name] = best(scores[group.name][rows])
    return permutation
