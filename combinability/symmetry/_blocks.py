"""Labelled arrays as blocks: parts each axis of which is one class of units or none."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from combinability.symmetry import _label
from combinability.symmetry._label import Label
from combinability.symmetry._symmetry import Step


class Part(NamedTuple):
    """A part of an array: how to get it, its shape, and a variable for each axis."""

    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    atoms: tuple[Label, ...]


def parts(labels: Sequence[Label]) -> Iterator[Part]:
    """The parts of an array whose axes have the given labels.

    Products become axes of their own; sums are cut, which gives one part for each
    choice of a segment along each axis.
    """
    atoms = tuple(factor for label in labels for factor in _label.factors(label))
    shape = tuple(atom.size for atom in atoms)
    if all(atom.kind != "sum" for atom in atoms):
        yield Part((), shape, atoms)
        return
    for choice in itertools.product(*map(_placed_segments, atoms)):
        start = tuple(start for start, _ in choice)
        stop = tuple(start + segment.size for start, segment in choice)
        for part in parts([segment for _, segment in choice]):
            yield part._replace(steps=(Step(shape, start, stop), *part.steps))


def _placed_segments(label: Label) -> list[tuple[int, Label]]:
    placed, start = [], 0
    for segment in _label.segments(label):
        placed.append((start, segment))
        start += segment.size
    return placed


class Place(NamedTuple):
    """A contiguous piece of an axis: its place, its factors, a variable for each."""

    start: int
    shape: tuple[int, ...]
    atoms: tuple[Label, ...]

    @property
    def size(self) -> int:
        """How many positions of the axis it covers."""
        size = 1
        for factor in self.shape:
            size *= factor
        return size


def places(label: Label, start: int = 0) -> Iterator[Place]:
    """The pieces of an axis, from left to right."""
    for offset, segment in _placed_segments(label):
        atoms = _label.factors(segment)
        inner = [i for i, atom in enumerate(atoms) if atom.kind == "sum"]
        first = start + offset
        if not inner:
            yield Place(first, tuple(atom.size for atom in atoms), tuple(atoms))
            continue
        outer, rest = atoms[: inner[0]], atoms[inner[0] :]
        sizes = [atom.size for atom in atoms]
        for number, _ in enumerate(outer):
            yield Place(first, tuple(sizes), _only(atoms, number))
        within = _label.product(rest)
        for repeat in range(segment.size // within.size):
            before = first + repeat * within.size
            for position, piece in _placed_segments(rest[0]):
                tail = _label.product([piece, *rest[1:]])
                ratio = within.size // rest[0].size
                yield from places(tail, before + position * ratio)


def _only(atoms: Sequence[Label], number: int) -> tuple[Label, ...]:
    """One of the factors; the others are left out of account."""
    return tuple(
        atom if i == number else _label.uniform(atom.size)
        for i, atom in enumerate(atoms)
    )
