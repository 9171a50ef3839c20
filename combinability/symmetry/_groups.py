"""From labels to a `Symmetry`: groups, what they lie within, names, blocks and pins.

Every variable label that is free is a group. Two questions remain.

*Within.* The units of d may have a permutation of their own inside every unit of h
only if every value that has d has h exactly once, and wherever d is summed over in a
product, h is summed over with it or keeps the sums apart. Nor may an operation mix the
units of h, or put them in another order, in a value that goes on with d. Inside a scan
the scanned axis counts for what an iteration computes, not for what it carries along.

*Fusion.* A reshape to (h, d) makes a product of a variable. If nothing tells h and d
apart afterwards, each may lie within the other, and all h·d units are one group.
"""

import itertools
import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from combinability.symmetry import _label
from combinability.symmetry._label import Label
from combinability.symmetry._symmetry import (
    Axis,
    Block,
    Carrier,
    Group,
    Leaf,
    Pin,
    Step,
    Symmetry,
    Trace,
)
from combinability.symmetry._walk import Walk

Names = Mapping[Label, str]
Within = dict[Label, set[Label]]
Pairs = dict[tuple[Label, Label], Label]


def assemble(
    walk: Walk,
    labels: Sequence[Sequence[Label]],
    leaves: Sequence[Leaf],
    trace: Trace,
) -> tuple[Symmetry, dict[str, Label], "Fusion"]:
    """The symmetry that follows from the labels of a network's leaves.

    Args:
        walk: with the notes that it took in the program.
        labels: for each leaf the labels of its axes.
        leaves: path, shape and dtype of each leaf.
        trace: the traced program and its inputs.

    Returns:
        The symmetry; the label of each of its groups; which labels were joined.
    """
    arrays = [
        place.factors
        for of_leaf in labels
        for label in of_leaf
        for place in _places(label)
    ]
    fuse = Fusion(_may_lie_within(walk), arrays)
    axes = _axes(labels, leaves, fuse)
    parents = _parents(fuse.within, axes)
    free = [label for label in axes if not label.reason]
    outer = {parent for label in free for parent in parents[label]}
    shown = {label: axes[label] for label in axes if label in {*free, *outer}}
    names = _names(shown, leaves)
    groups = {
        names[label]: Group(
            label.size,
            tuple(axes[label]),
            tuple(names[parent] for parent in parents[label]),
            tuple(parent.size for parent in parents[label]),
        )
        for label in free
    }
    blocks = [
        _block(number, part, fuse, names)
        for number, of_leaf in enumerate(labels)
        for part in _parts(of_leaf)
    ]
    # Those with a group, and the others of the same leaves.
    carrying = [b for b in blocks if not groups.keys().isdisjoint(b.labels)]
    carried = {block.leaf for block in carrying}
    rest = [b for b in blocks if groups.keys().isdisjoint(b.labels)]
    # Scans stack what is inside them along leading axes.
    carriers = [
        Carrier(operand.path, len(iterated), _block(0, part, fuse, names))
        for operand in walk.operands
        for iterated in [operand.value.iterated]
        for part in _parts([*iterated, *operand.value.labels])
    ]
    symmetry = Symmetry(
        groups=groups,
        pins=tuple(
            Pin(axis.path, axis.axis, axis.start, axis.stop, label.reason)
            for label, places in axes.items()
            for axis in places
            if label.reason
        ),
        blocks=tuple(carrying),
        rest=tuple(b for b in rest if b.leaf in carried),
        leaves=tuple(leaves),
        inputs=", ".join(f"{x.dtype.name}{list(x.shape)}" for x in trace.inputs),
        trace=trace._replace(
            carriers=tuple(
                c
                for c in carriers
                if (own := groups.keys() & set(c.block.labels))
                # Not where an index picked one of the units that they lie within.
                and all({*groups[n].within} <= {*c.block.labels} for n in own)
            )
        ),
    )
    return symmetry, {names[label]: label for label in free}, fuse


class Part(NamedTuple):
    """A part of an array: how to get it, and its axes, none of which is a sum."""

    steps: tuple[Step, ...]
    factors: tuple[Label, ...]


def _parts(labels: Sequence[Label]) -> Iterator[Part]:
    """The parts of an array whose axes have the given labels.

    Products become axes of their own; sums are cut, which gives one part for each
    choice of a segment along each axis.
    """
    factors = tuple(factor for label in labels for factor in _label.factors(label))
    if all(factor.kind != "sum" for factor in factors):
        yield Part((), factors)
        return
    shape = tuple(factor.size for factor in factors)
    for choice in itertools.product(*map(_placed_segments, factors)):
        start = tuple(start for start, _ in choice)
        stop = tuple(start + segment.size for start, segment in choice)
        for part in _parts([segment for _, segment in choice]):
            yield Part((Step(shape, start, stop), *part.steps), part.factors)


def _placed_segments(label: Label) -> list[tuple[int, Label]]:
    """The segments of a label, each with where it starts."""
    segments = _label.segments(label)
    starts = itertools.accumulate((s.size for s in segments), initial=0)
    return list(zip(starts, segments, strict=False))


def _block(leaf: int, part: Part, fuse: "Fusion", names: Names) -> Block:
    factors = fuse(part.factors)
    labels = tuple(names.get(factor) for factor in factors)
    return Block(leaf, tuple(factor.size for factor in factors), labels, part.steps)


def placed_units(
    label: Label, fuse: "Fusion", groups: Container[Label], start: int = 0, stride=1
) -> Iterator[tuple[Label, int, int]]:
    """The groups on an axis, each with its first entry and the distance of units."""
    stride *= label.size
    for factor in fuse(_label.factors(label)):
        stride //= factor.size
        if factor.kind == "sum":
            for offset, segment in _placed_segments(factor):
                first = start + offset * stride
                yield from placed_units(segment, fuse, groups, first, stride)
        elif factor in groups:
            yield factor, start, stride


class Place(NamedTuple):
    """A contiguous piece of an axis: where it starts, and its factors."""

    start: int
    factors: tuple[Label, ...]


def _places(label: Label, start: int = 0) -> Iterator[Place]:
    """The pieces of an axis, from left to right."""
    for offset, segment in _placed_segments(label):
        factors = _label.factors(segment)
        sums = [i for i, factor in enumerate(factors) if factor.kind == "sum"]
        first = start + offset
        if not sums:
            yield Place(first, tuple(factors))
            continue
        for number in range(sums[0]):
            only = [_label.uniform(factor.size) for factor in factors]
            only[number] = factors[number]
            yield Place(first, tuple(only))
        within = _label.product(factors[sums[0] :])
        inner = factors[sums[0] + 1 :]
        for repeat in range(segment.size // within.size):
            before = first + repeat * within.size
            for position, piece in _placed_segments(factors[sums[0]]):
                size = math.prod(factor.size for factor in inner)
                yield from _places(
                    _label.product([piece, *inner]), before + position * size
                )


def _axes(labels, leaves, fuse: "Fusion") -> dict[Label, list[Axis]]:
    """Where each variable is, in the order of the leaves."""
    found: dict[Label, list[Axis]] = {}
    for leaf, of_leaf in zip(leaves, labels, strict=True):
        for number, label in enumerate(of_leaf):
            for start, place in _places(label):
                factors = fuse(place)
                shape = tuple(factor.size for factor in factors)
                stop = start + math.prod(shape)
                for position, factor in enumerate(factors):
                    if factor.kind == "variable":
                        axis = Axis(leaf.path, number, start, stop, shape, position)
                        found.setdefault(factor, []).append(axis)
    return found


def _may_lie_within(walk: Walk) -> Within:
    """For each free variable the variables that it may lie within."""
    within: Within = {}
    seen = set()
    for value in walk.values:
        iterated = [f for label in value.iterated for f in _label.factors(label)]
        for part in _parts(value.labels):
            factors = (*iterated, *part.factors)
            if factors not in seen:
                seen.add(factors)
                _restrict_to_present(within, factors)
    for contraction in walk.contractions:
        summed, separate = map(_variables, contraction)
        for label in summed & within.keys():
            within[label] &= (summed | separate) - {label}
    for mixing in walk.mixings:
        mixed, others = map(_variables, mixing)
        for label in others & within.keys():
            within[label] -= mixed
    return within


def _variables(labels: Iterable[Label]) -> set[Label]:
    return {leaf for label in labels for leaf in _label.leaves(label)}


def _restrict_to_present(within: Within, factors: Sequence[Label]) -> None:
    counts = Counter(factor for factor in factors if factor.kind == "variable")
    once = {label for label, count in counts.items() if count == 1}
    for label in counts:
        if not label.reason:
            present = once - {label}
            within[label] = within[label] & present if label in within else present


def _parents(within: Within, axes: Iterable[Label]) -> dict[Label, tuple[Label, ...]]:
    """For each free variable those that it does lie within, outermost first.

    Of two that may each lie within the other, the first is the outer one. Pinned ones
    are in the order of the axes that they are on.
    """
    order = {label: number for number, label in enumerate(within)}
    place = {label: number for number, label in enumerate(axes)}

    def rank(label):
        return len(within.get(label, ())), order.get(label, -1), place.get(label, -1)

    found = {}
    for label, outer in within.items():
        kept = [
            other
            for other in outer
            if label not in within.get(other, ()) or order[other] < order[label]
        ]
        found[label] = tuple(sorted(kept, key=rank))
    return found


class Fusion:
    """Join neighbouring factors that no array distinguishes.

    Args:
        within: for each free variable those that it may lie within.
        arrays: the factors of each axis of the leaves.
    """

    def __init__(self, within: Within, arrays: Sequence[Sequence[Label]]):
        self._rounds: list[Pairs] = []
        while pairs := _inseparable_pairs(within, arrays):
            self._rounds.append(pairs)
            arrays = [_joined(factors, pairs) for factors in arrays]
            within = _renamed(within, pairs)
        self.within = within

    def __call__(self, factors: Sequence[Label]) -> tuple[Label, ...]:
        """The factors of an axis, with inseparable neighbours as one."""
        for pairs in self._rounds:
            factors = _joined(factors, pairs)
        return tuple(factors)


def _inseparable_pairs(within: Within, arrays: Sequence[Sequence[Label]]) -> Pairs:
    """Pairs of neighbouring factors that may be one variable, and that variable."""
    pairs: set[tuple[Label, Label]] = set()
    apart: set[Label] = set()
    for factors in arrays:
        adjacent = set(itertools.pairwise(factors))
        pairs |= {pair for pair in adjacent if _inseparable(*pair, within)}
        apart |= set(factors) - {x for pair in adjacent & pairs for x in pair}
    good = [pair for pair in pairs if apart.isdisjoint(pair)]
    counts = Counter(x for pair in good for x in pair)
    return {
        pair: _label.variable(pair[0].size * pair[1].size)
        for pair in good
        if counts[pair[0]] == counts[pair[1]] == 1
    }


def _inseparable(first: Label, second: Label, within: Within) -> bool:
    if first.reason or second.reason or first is second:
        return False
    if first not in within.get(second, ()) or second not in within.get(first, ()):
        return False
    same = within[first] - {second} == within[second] - {first}
    others = (outer for x, outer in within.items() if x not in (first, second))
    return same and all((first in outer) == (second in outer) for outer in others)


def _joined(factors: Sequence[Label], pairs: Pairs) -> tuple[Label, ...]:
    result: list[Label] = []
    for factor in factors:
        pair = (result[-1], factor) if result else None
        if pair in pairs:
            result[-1] = pairs[pair]
        else:
            result.append(factor)
    return tuple(result)


def _renamed(within: Within, pairs: Pairs) -> Within:
    new = {label: joined for pair, joined in pairs.items() for label in pair}
    renamed: Within = {}
    for label, outer in within.items():
        own = new.get(label, label)
        renamed[own] = {new.get(other, other) for other in outer} - {own}
    return renamed


def _names(
    axes: Mapping[Label, Sequence[Axis]], leaves: Sequence[Leaf]
) -> dict[Label, str]:
    """A name for each group: the module that makes its units, and more if need be."""
    rank = {leaf.path: len(leaf.shape) for leaf in leaves}
    homes = {label: _home(places, rank) for label, places in axes.items()}
    names: dict[Label, str] = {}
    for template in (
        "{module}",
        "{module}:{axis.axis}",
        "{module}:{axis.axis}({axis.factor})",
        "{axis.path}:{axis.axis}({axis.factor})[{axis.start}:{axis.stop}]",
    ):
        wanted = {
            label: template.format(axis=axis, module=_module(axis))
            for label, axis in homes.items()
            if label not in names
        }
        counts = Counter([*wanted.values(), *names.values()])
        names |= {label: name for label, name in wanted.items() if counts[name] == 1}
    return names


def _home(places: Sequence[Axis], rank: Mapping[str, int]) -> Axis:
    """The last axis of the first matrix that has one: that of a layer's outputs."""

    def preference(axis: Axis) -> tuple[bool, bool, bool]:
        matrix = rank[axis.path] > 1
        return axis.axis == rank[axis.path] - 1, matrix, "bias" not in axis.path

    return max(places, key=preference)


def _module(axis: Axis) -> str:
    """The path of a leaf without its own name and the name of the collection."""
    parts = axis.path.split("/")
    if len(parts) > 1 and parts[-1] == "value":
        parts = parts[:-1]
    if len(parts) > 1 and parts[0] in ("params", "batch_stats"):
        parts = parts[1:]
    return "/".join(parts[:-1]) if len(parts) > 1 else parts[0]
