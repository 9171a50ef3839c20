"""Classes that are never apart: two factors that could as well be one class.

A reshape to (h, d) refines a class into a product. If nothing then tells h and d apart,
each lies within the other, and all h·d units may be permuted as freely as before.
"""

import itertools
from collections.abc import Sequence

from combinability.symmetry import _label
from combinability.symmetry._label import Label

Fusions = dict[tuple[Label, Label], Label]


def _fusions(
    allowed: dict[Label, set[Label]], arrays: Sequence[Sequence[Label]]
) -> Fusions:
    """Pairs of adjacent factors that may be taken for one class, and that class."""
    pairs: set[tuple[Label, Label]] = set()
    apart: set[Label] = set()
    for atoms in arrays:
        adjacent = set(itertools.pairwise(atoms))
        pairs |= {pair for pair in adjacent if _inseparable(*pair, allowed)}
        joined = {atom for pair in adjacent & pairs for atom in pair}
        apart |= set(atoms) - joined
    good = [pair for pair in pairs if apart.isdisjoint(pair)]
    once = [x for pair in good for x in pair]
    return {
        pair: _label.variable(pair[0].size * pair[1].size)
        for pair in good
        if all(once.count(x) == 1 for x in pair)
    }


def _inseparable(first: Label, second: Label, allowed: dict[Label, set[Label]]) -> bool:
    if first.reason or second.reason or first is second:
        return False
    if first not in allowed.get(second, ()) or second not in allowed.get(first, ()):
        return False
    same = allowed[first] - {second} == allowed[second] - {first}
    others = (outer for x, outer in allowed.items() if x not in (first, second))
    return same and all((first in outer) == (second in outer) for outer in others)


class Fusion:
    """Joins factors that are never apart, in whatever array they are.

    Args:
        allowed: for each free class those that it may lie within.
        arrays: the factors of each axis that holds variables' units.
    """

    def __init__(
        self, allowed: dict[Label, set[Label]], arrays: Sequence[Sequence[Label]]
    ):
        self._rounds: list[Fusions] = []
        while found := _fusions(allowed, arrays):
            self._rounds.append(found)
            arrays = [_fused(atoms, found) for atoms in arrays]
            allowed = _renamed(allowed, found)
        self.allowed = allowed

    def __call__(self, atoms: Sequence[Label]) -> tuple[Label, ...]:
        """The factors of an array, fusible neighbours as one."""
        for found in self._rounds:
            atoms = _fused(atoms, found)
        return tuple(atoms)


def _renamed(allowed: dict[Label, set[Label]], found: Fusions) -> dict:
    new = {label: pair for pair in found for label in pair}
    renamed: dict[Label, set[Label]] = {}
    for label, outer in allowed.items():
        pair = new.get(label)
        names = {found[new[x]] if x in new else x for x in outer}
        own = found[pair] if pair else label
        renamed[own] = names - {own}
    return renamed


def _fused(atoms: Sequence[Label], pairs: Fusions) -> tuple[Label, ...]:
    result: list[Label] = []
    for atom in atoms:
        pair = (result[-1], atom) if result else None
        if pair in pairs:
            result[-1] = pairs[pair]
        else:
            result.append(atom)
    return tuple(result)
