"""Which classes lie within which: permuted inside every unit of another one.

A class d may have a permutation of its own for every unit of a class h only if every
array that contains d contains h exactly once, and wherever d is summed over in a
product, h is summed over with it or keeps the sums apart. Nor may an operation mix the
units of h, or put them in another order, in an array that goes on with d. Inside a scan
the scanned axis counts for what an iteration makes, not for what it carries along.
"""

from collections import Counter
from collections.abc import Iterable

from combinability.symmetry import _label
from combinability.symmetry._blocks import parts
from combinability.symmetry._label import Label
from combinability.symmetry._walk import Contraction, Mixing, Value

Nesting = dict[Label, tuple[Label, ...]]


def may_lie_within(
    values: Iterable[Value],
    contractions: Iterable[Contraction],
    mixings: Iterable[Mixing],
) -> dict[Label, set[Label]]:
    """For each free class the classes that it may lie within.

    Args:
        values: labels of every value of the program, variables included.
        contractions: the sums of products in it.
        mixings: where units are summed over or reordered.
    """
    allowed: dict[Label, set[Label]] = {}
    seen = set()
    for value in values:
        iterated = [f for label in value.iterated for f in _label.factors(label)]
        for part in parts(value.labels):
            atoms = (*iterated, *part.atoms)
            if atoms not in seen:
                seen.add(atoms)
                _restrict_to_present(allowed, atoms)
    for contraction in contractions:
        _restrict_to_joint(allowed, contraction)
    for mixing in mixings:
        mixed = {leaf for label in mixing.mixed for leaf in _label.leaves(label)}
        for label in mixing.beside:
            for leaf in _label.leaves(label):
                if leaf in allowed:
                    allowed[leaf] -= mixed
    return allowed


def _restrict_to_present(allowed: dict[Label, set[Label]], atoms) -> None:
    counts = Counter(atom for atom in atoms if atom.kind == "variable")
    once = {atom for atom, count in counts.items() if count == 1}
    for atom in counts:
        if not atom.reason:
            present = once - {atom}
            allowed[atom] = allowed[atom] & present if atom in allowed else present


def _restrict_to_joint(allowed: dict[Label, set[Label]], contraction) -> None:
    summed = {leaf for label in contraction.contracted for leaf in _label.leaves(label)}
    apart = {leaf for label in contraction.batch for leaf in _label.leaves(label)}
    for leaf in summed:
        if leaf in allowed:
            allowed[leaf] = allowed[leaf] & (summed | apart) - {leaf}


def nesting(allowed: dict[Label, set[Label]]) -> Nesting:
    """For each free class the classes that it does lie within, outermost first.

    Of two classes that may each lie within the other, the first is the outer one.
    """
    order = {label: number for number, label in enumerate(allowed)}
    found: Nesting = {}
    for label, outer in allowed.items():
        kept = [
            other
            for other in outer
            if label not in allowed.get(other, ()) or order[other] < order[label]
        ]
        found[label] = tuple(
            sorted(kept, key=lambda o: (len(allowed.get(o, ())), order.get(o, -1)))
        )
    return found
