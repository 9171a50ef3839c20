"""Assignments of all groups as index arrays, those of nested groups for every pair."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from combinability.matching._terms import Plan, Unit

# Group -> index array (*pairs, size): unit i of a is unit `index[..., i]` of b, where
# the parents' units of a and of b are those of the leading axes.
Indices = dict[str, Any]


def spread(plan: Plan, permutation: Mapping[str, Any], xp: ModuleType) -> Indices:
    """A permutation of b as indices: a child's row for every unit that may come.

    Args:
        plan: the groups; those that the permutation does not name stay.
        permutation: index arrays (*blocks, size).
        xp: NumPy or JAX's.
    """
    indices = {}
    for name, unit in plan.units.items():
        row = xp.asarray(permutation.get(name, np.arange(unit.size)))
        if row.ndim > 1:
            shape = ((size, 1) if free else (size,) for _, size, free in unit.within)
            row = row.reshape(*(length for pair in shape for length in pair), unit.size)
        indices[name] = xp.broadcast_to(row, (*unit.pairs, unit.size))
    return indices


def present(unit: Unit, plan: Plan, permutation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which of the pairs of its parents are matched, to index `(*pairs, …)` with."""
    places = np.indices(tuple(size for _, size, _ in unit.within), sparse=True)
    at = {name: place for (name, _, _), place in zip(unit.within, places, strict=True)}
    index = []
    for name, _, free in unit.within:
        index.append(at[name])
        if free:
            above = (parent for parent, _, _ in plan.units[name].within)
            index.append(permutation[name][(*(at[p] for p in above), at[name])])
    return tuple(index)


def resolve(plan: Plan, indices: Indices) -> dict[str, Any]:
    """The permutation of b that indices amount to."""
    permutation: dict[str, Any] = {}
    for family in plan.families:
        for unit in reversed(family):
            rows = present(unit, plan, permutation)
            permutation[unit.name] = indices[unit.name][rows]
    return permutation
