"""The objective ⟨a, π(b)⟩ of matching by weights, and its derivative by each group.

Let X be the matrix of an assignment, X[i, j] = 1 where unit i of a is paired with unit
j of b. The inner product of the aligned weights is a sum over blocks of products of X,
one for each axis that carries a group. Its derivative by the X of one group is the
matrix of *scores*: what each pair of units contributes, with the other groups fixed. A
`Term` is the contribution of one axis of one block: an `einsum` of the block of a, that
of b and the X of other groups.

A group that lies within others, its parents, has a matrix for every pair of their
units: parents are matched by the best that their children can do.
"""

import functools
import math
import operator
import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from combinability.symmetry._indexing import at_parents, places, take
from combinability.symmetry._symmetry import Group, Symmetry

# An axis of a block that carries a group: the group's name, and the axes of its
# parents and, last, its own.
Carried = tuple[str, tuple[int, ...]]


class Term(NamedTuple):
    """The contribution of one axis of one block to the scores of a group.

    Some axes of b's block are permuted beforehand, parents first. The subscripts are
    of the einsum of a's block, b's block and the matrices X of the partners.
    """

    block: int
    permuted: tuple[Carried, ...]
    partners: tuple[str, ...]
    subscripts: str

    @property
    def constant(self) -> bool:
        """Whether it depends on no assignment."""
        return not (self.permuted or self.partners)


class GroupTerms(NamedTuple):
    """A group and the terms of its scores; none for a group that is held fixed.

    X has two axes for each parent (one for a pinned parent), then the units of a and
    those of b. The terms are exact where they do not depend on the group's own
    assignment: the best one for them is optimal with the other groups fixed.
    """

    name: str
    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    exact: bool


class Plan(NamedTuple):
    """What is static in matching by weights.

    Families are groups that lie within one another, children first; `carried` has for
    each block its axes that carry groups, parents first.
    """

    groups: Mapping[str, Group]
    families: tuple[tuple[GroupTerms, ...], ...]
    carried: tuple[tuple[Carried, ...], ...]

    @property
    def matched(self) -> dict[str, GroupTerms]:
        """The groups that are not held fixed."""
        flat = (group for family in self.families for group in family)
        return {group.name: group for group in flat if group.terms}


def plan(
    symmetry: Symmetry, matched: Collection[str] | None = None, relaxed: bool = False
) -> Plan:
    """The terms of all groups, or of the matched ones.

    If relaxed, all other groups enter a term by their matrices X, which may then be any
    matrices; otherwise only those of the same family do, and for the others b's block
    is permuted beforehand.
    """
    groups = symmetry.groups
    family = {name: name for name in groups}
    for name in sorted(groups, key=lambda n: len(groups[n].within)):
        for parent in filter(groups.__contains__, groups[name].within):
            old, new = family[name], family[parent]
            family = {n: new if f == old else f for n, f in family.items()}
    members: dict[str, list[GroupTerms]] = {}
    for name, group in groups.items():
        terms, exact = [], True
        for number, block in enumerate(symmetry.blocks):
            if name in block.labels and (matched is None or name in matched):
                terms += [
                    _term(symmetry, family, number, axis, relaxed)
                    for axis in block.positions(name)
                ]
                mine = [n for n in block.labels if n and family.get(n) == family[name]]
                exact &= len(mine) == len(set(mine))
        pairs = zip(group.within, group.blocks, strict=True)
        outer = [n for p, n in pairs for _ in range(2 if p in groups else 1)]
        shape = (*outer, group.size, group.size)
        one = GroupTerms(name, shape, tuple(terms), exact)
        members.setdefault(family[name], []).append(one)
    by_depth = (sorted(m, key=lambda g: -len(g.shape)) for m in members.values())
    carried = (
        _carried(symmetry, number, range(len(block.labels)))
        for number, block in enumerate(symmetry.blocks)
    )
    return Plan(groups, tuple(map(tuple, by_depth)), tuple(carried))


def _carried(
    symmetry: Symmetry, number: int, axes: Iterable[int]
) -> tuple[Carried, ...]:
    """Those of the given axes of a block that carry groups, parents first."""
    labels = [label or "" for label in symmetry.blocks[number].labels]
    found = [
        (labels[axis], (*map(labels.index, symmetry.groups[labels[axis]].within), axis))
        for axis in axes
        if labels[axis] in symmetry.groups
    ]
    return tuple(sorted(found, key=lambda one: len(one[1])))


def _term(
    symmetry: Symmetry, family: dict[str, str], number: int, axis: int, relaxed: bool
) -> Term:
    groups = symmetry.groups
    labels = [label or "" for label in symmetry.blocks[number].labels]
    name = labels[axis]
    parents = {labels.index(parent) for parent in groups[name].within}
    partners, permuted = [], []
    for other, label in enumerate(labels):
        if label in groups and other != axis and other not in parents:
            related = family[label] == family[name] and labels.index(label) == other
            as_matrix = relaxed or (related and label != name)
            (partners if as_matrix else permuted).append(other)
    paired = {axis, *partners, *(i for i in parents if labels[i] in groups)}
    a = string.ascii_lowercase[: len(labels)]
    b = "".join(c.upper() if i in paired else c for i, c in enumerate(a))

    def matrix(place: int) -> str:
        axes = [*map(labels.index, groups[labels[place]].within), place]
        return "".join(a[i] + (b[i] if b[i] != a[i] else "") for i in axes)

    inputs = ",".join([a, b, *map(matrix, partners)])
    return Term(
        number,
        _carried(symmetry, number, permuted),
        tuple(labels[place] for place in partners),
        f"{inputs}->{matrix(axis)}",
    )


class Objective:
    """⟨a, π(b)⟩ over the blocks of two networks, and the scores of each group.

    The magnitude of a block is the product of the norms of a's and b's.
    """

    def __init__(self, plan: Plan, a: Sequence[np.ndarray], b: Sequence[np.ndarray]):
        self.plan, self.a, self.b = plan, a, b
        norms = ([math.sqrt(float(np.vdot(x, x))) for x in blocks] for blocks in (a, b))
        self.magnitudes = [x * y for x, y in zip(*norms, strict=True)]
        self._constant: dict[tuple[Term, ...], np.ndarray] = {}

    def value(
        self, permutation: Mapping[str, Any], blocks: Iterable[int] | None = None
    ) -> float:
        """The objective, over all blocks or some."""
        total = 0.0
        for number in range(len(self.a)) if blocks is None else blocks:
            b = self.permuted(number, self.plan.carried[number], permutation)
            total += float(np.vdot(self.a[number], b))
        return total

    def permuted(
        self, number: int, carried: Iterable[Carried], permutation: Mapping[str, Any]
    ) -> np.ndarray:
        """A block of b with some of its axes permuted."""
        block = self.b[number]
        for name, axes in carried:
            index = np.asarray(permutation[name])
            if not (index == np.arange(index.shape[-1])).all():
                block = take(block, index, axes)
        return block

    def scores(
        self,
        term: Term,
        permutation: Mapping[str, Any],
        matrices: Mapping[str, Any],
    ) -> np.ndarray:
        """The contribution of a term to the scores of its group, shaped as its X."""
        partners = (matrices[name] for name in term.partners)
        b = self.permuted(term.block, term.permuted, permutation)
        return contract(term.subscripts, self.a[term.block], b, *partners)

    def total(
        self, terms: Sequence[Term], compute: Callable[[Term], np.ndarray]
    ) -> np.ndarray:
        """The sum of some terms of a group; `compute` gives those that vary."""
        constant = tuple(term for term in terms if term.constant)
        if constant and constant not in self._constant:
            values = (self.scores(term, {}, {}) for term in constant)
            self._constant[constant] = functools.reduce(operator.add, values)
        values = [self._constant[constant]] if constant else []
        values += [compute(term) for term in terms if not term.constant]
        return functools.reduce(operator.add, values)


# In full precision on accelerators too, whose default is lower.
multiply = jax.jit(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))


def contract(subscripts: str, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """`einsum` by matrix products: the others from left to right, then the first."""
    inputs, output = subscripts.split("->")
    names = inputs.split(",")
    operands = [*zip(names[2:], others[1:], strict=True), (names[0], first)]
    labels, found = names[1], others[0]
    for number, (mine, operand) in enumerate(operands):
        needed = set(output).union(*(name for name, _ in operands[number + 1 :]))
        lost = tuple(i for i, c in enumerate(labels) if c not in needed | set(mine))
        found = found.sum(axis=lost) if lost else found
        labels = "".join(c for c in labels if c in needed | set(mine))
        batch = [c for c in labels if c in mine and c in needed]
        summed = [c for c in labels if c in mine and c not in needed]
        left = [c for c in mine if c not in labels]
        right = [c for c in labels if c not in mine]
        size = dict(zip(labels + mine, found.shape + operand.shape, strict=True))
        x = _merged(operand, mine, batch, left, summed)
        y = _merged(found, labels, batch, summed, right)
        found = np.asarray(multiply(x, y))
        labels = "".join([*batch, *left, *right])
        found = found.reshape([size[c] for c in labels])
    return found.transpose([labels.index(c) for c in output])


def _merged(array: np.ndarray, labels: str, *parts: list[str]) -> np.ndarray:
    """An array with the axes of each part merged into one; without an empty first."""
    array = array.transpose([labels.index(c) for part in parts for c in part])
    sizes, shape = iter(array.shape), []
    for part in parts:
        shape.append(math.prod(next(sizes) for _ in part))
    return array.reshape(shape if parts[0] else shape[1:])


# Assignments of all groups: unit i of a is paired with unit `indices[name][..., i]` of
# b, where the leading axes are those of X.
Indices = dict[str, np.ndarray]


def spread(plan: Plan, permutation: Mapping[str, Any]) -> Indices:
    """A permutation of b as indices; groups that it does not name stay."""
    indices = {}
    for group in (group for family in plan.families for group in family):
        row = np.asarray(permutation.get(group.name, np.arange(group.shape[-1])))
        if row.ndim > 1:
            # One row per unit of a's parents, whichever of b's is paired with it.
            free = [parent in plan.groups for parent in plan.groups[group.name].within]
            for axis in reversed(range(len(free))):
                row = np.expand_dims(row, axis + 1) if free[axis] else row
        indices[group.name] = np.broadcast_to(row, group.shape[:-1])
    return indices


def matched_pairs(
    plan: Plan, name: str, permutation: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """Which pairs of its parents' units are matched, to index the leading axes of X."""
    group = plan.groups[name]
    found = []
    sources = at_parents(plan.groups, permutation, name)
    for parent, place, source in zip(
        group.within, places(group.blocks), sources, strict=True
    ):
        found.append(place[..., 0])
        if parent in plan.groups:
            found.append(source[..., 0])
    return tuple(found)


def resolve(plan: Plan, indices: Mapping[str, np.ndarray]) -> Indices:
    """The permutation of b that indices amount to."""
    permutation: Indices = {}
    for family in plan.families:
        for group in reversed(family):
            rows = matched_pairs(plan, group.name, permutation)
            permutation[group.name] = indices[group.name][rows]
    return permutation


def one_hot(index: np.ndarray, dtype: Any) -> np.ndarray:
    """The matrices X of index arrays."""
    return (index[..., None] == np.arange(index.shape[-1])).astype(dtype)
