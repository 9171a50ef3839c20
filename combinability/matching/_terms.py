"""How the blocks of two networks bear on the assignment of a group's units.

Let X be the matrices of an assignment, X[i, j] = 1 where unit i of a is unit j of b.
The inner product of the aligned weights is a sum over blocks of products of X, one for
each axis that carries a group. Its derivative by the X of one group is the matrix of
what each pair of units is worth, the others being as they are. A `Term` is what one
axis of one block adds: an `einsum` of the block of a, that of b and other groups' X.

A group that lies within another has a matrix for every pair of units of that one: units
of the parents are matched by the best that their children can do.
"""

import string
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from combinability.symmetry._symmetry import Block, Symmetry


class Move(NamedTuple):
    """An axis of a block that is to be permuted.

    Attributes:
        name: the group.
        axis: the axis of the block.
        parents: the axes of the groups that it lies within.
    """

    name: str
    axis: int
    parents: tuple[int, ...]


class Term(NamedTuple):
    """What one axis of one block adds to the worth of a group's pairs of units.

    Attributes:
        block: the position of the block in `symmetry.blocks`.
        before: the axes of b's block that are permuted beforehand, parents first.
        partners: the groups whose matrices X enter.
        subscripts: of the einsum of a's block, b's block and those matrices.
    """

    block: int
    before: tuple[Move, ...]
    partners: tuple[str, ...]
    subscripts: str


class Unit(NamedTuple):
    """A group with its terms.

    Attributes:
        name: the group.
        size: number of units.
        within: (name, number of units, whether it can be permuted) of the parents.
        terms: what bears on it.
        exact: whether the terms do not depend on the group's own assignment, so that
            the best assignment for them is the best there is, others being as they are.
    """

    name: str
    size: int
    within: tuple[tuple[str, int, bool], ...]
    terms: tuple[Term, ...]
    exact: bool

    @property
    def pairs(self) -> tuple[int, ...]:
        """Axes of X before the last two: two for a parent, one for a pinned one."""
        return tuple(
            size for _, size, free in self.within for _ in range(2 if free else 1)
        )


class Plan(NamedTuple):
    """The terms of a symmetry: all that is static of matching by weights.

    Attributes:
        families: groups that lie within one another, those inside first.
        moves: for each block how all of it is permuted, parents first.
    """

    families: tuple[tuple[Unit, ...], ...]
    moves: tuple[tuple[Move, ...], ...]

    @property
    def units(self) -> dict[str, Unit]:
        """The groups by name."""
        return {unit.name: unit for family in self.families for unit in family}


def plan(symmetry: Symmetry, relaxed: bool = False) -> Plan:
    """The terms of all groups.

    Args:
        symmetry: groups and blocks.
        relaxed: whether all other groups enter by their matrices X, which may then be
            any; else only those of the same family do, and for all others b's block is
            permuted beforehand.
    """
    kin = _families(symmetry)
    families: dict[str, list[Unit]] = {}
    for name, group in symmetry.groups.items():
        terms = tuple(_terms(symmetry, kin, name, relaxed))
        within = tuple(
            (parent, size, parent in symmetry.groups)
            for parent, size in zip(group.within, group.blocks, strict=True)
        )
        exact = not any(
            _repeats(symmetry.blocks[term.block], kin, name) for term in terms
        )
        unit = Unit(name, group.size, within, terms, exact)
        families.setdefault(kin[name], []).append(unit)
    ordered = (sorted(f, key=lambda u: -len(u.within)) for f in families.values())
    blocks = range(len(symmetry.blocks))
    return Plan(
        tuple(map(tuple, ordered)),
        tuple(
            _moves(symmetry, number, range(len(symmetry.blocks[number].shape)))
            for number in blocks
        ),
    )


def _moves(symmetry: Symmetry, number: int, axes: Iterable[int]) -> tuple[Move, ...]:
    """Those of the given axes of a block that carry groups, parents first."""
    labels = symmetry.blocks[number].labels
    moves = [
        Move(label, axis, tuple(map(labels.index, symmetry.groups[label].within)))
        for axis in axes
        if (label := labels[axis] or "") in symmetry.groups
    ]
    return tuple(sorted(moves, key=lambda move: len(move.parents)))


def _families(symmetry: Symmetry) -> dict[str, str]:
    """For each group one group that stands for its family."""
    kin = {name: name for name in symmetry.groups}
    for name, group in symmetry.groups.items():
        for parent in group.within:
            if parent in kin:
                old, new = kin[name], kin[parent]
                kin = {n: new if k == old else k for n, k in kin.items()}
    return kin


def _repeats(block: Block, kin: dict[str, str], name: str) -> bool:
    """Whether a group of the family is on two axes of a block."""
    mine = [label for label in block.labels if label and kin.get(label) == kin[name]]
    return len(mine) > len(set(mine))


def _terms(
    symmetry: Symmetry, kin: dict[str, str], name: str, relaxed: bool
) -> Iterator[Term]:
    for number, block in enumerate(symmetry.blocks):
        for axis in block.positions(name):
            yield _term(symmetry, kin, number, axis, relaxed)


def _term(
    symmetry: Symmetry, kin: dict[str, str], number: int, axis: int, relaxed: bool
) -> Term:
    groups = symmetry.groups
    labels = [label or "" for label in symmetry.blocks[number].labels]
    name = labels[axis]
    above = {labels.index(parent) for parent in groups[name].within}
    partners, before = [], []
    for other, label in enumerate(labels):
        if label not in groups or other == axis or other in above:
            continue
        akin = kin[label] == kin[name] and labels.index(label) == other
        if relaxed or (akin and label != name):
            partners.append(other)
        else:
            before.append(other)
    paired = {axis, *partners, *(i for i in above if labels[i] in groups)}
    a = string.ascii_lowercase[: len(labels)]
    b = "".join(c.upper() if i in paired else c for i, c in enumerate(a))

    def matrix(place: int) -> str:
        places = [*map(labels.index, groups[labels[place]].within), place]
        return "".join(a[i] + (b[i] if b[i] != a[i] else "") for i in places)

    operands = ",".join([a, b, *map(matrix, partners)])
    names = tuple(labels[place] for place in partners)
    return Term(
        number, _moves(symmetry, number, before), names, f"{operands}->{matrix(axis)}"
    )
