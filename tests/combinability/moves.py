"""Symmetries compared by what they move, not by how they are written down.

A symmetry stands for its generators: for each group, in each block, the exchanges of
neighbouring units, each as the set of pairs (number of an element, number of the one
that takes its place). So the names of groups and the form in which axes are written do
not matter.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from combinability._checks import path_name
from combinability.symmetry._symmetry import Symmetry
from tests.combinability.layouts import Coordinate, parse, solve_sizes

Move = frozenset[tuple[int, int]]


def generators(
    arrays: Iterable[tuple[Sequence[int], Sequence[Coordinate]]],
    sizes: Mapping[str, int],
    within: Mapping[str, tuple[str, ...]],
) -> dict[tuple[str, tuple[int, ...], int], Move]:
    """(group, block, i) -> what exchanging the units i and i + 1 of it moves.

    Each array is given as the numbers of its elements and their coordinates.
    """
    moves: dict[tuple, set] = {}
    for numbers, coordinates in arrays:
        place = dict(zip(coordinates, numbers, strict=True))
        for coordinate, number in place.items():
            for name in {name for name, _ in coordinate} & sizes.keys():
                units = {unit for label, unit in coordinate if label == name}
                block = block_of(coordinate, within.get(name, ()))
                for i in {i for unit in units for i in (unit - 1, unit)}:
                    if 0 <= i < sizes[name] - 1:
                        other = place[exchange(coordinate, name, i)]
                        moves.setdefault((name, block, i), set()).add((number, other))
    return {key: frozenset(pairs) for key, pairs in moves.items()}


def block_of(coordinate: Coordinate, parents: tuple[str, ...]) -> tuple[int, ...]:
    """The units of the parents at an element."""
    block = []
    for parent in parents:
        units = {unit for label, unit in coordinate if label == parent}
        if len(units) != 1:
            raise ValueError(f"{parent} occurs {len(units)} times in {coordinate}")
        block += units
    return tuple(block)


def exchange(coordinate: Coordinate, name: str, i: int) -> Coordinate:
    """The coordinate with the units i and i + 1 of a class exchanged."""
    swap = {i: i + 1, i + 1: i}
    return tuple(
        (label, swap.get(unit, unit) if label == name else unit)
        for label, unit in coordinate
    )


def numbered(variables) -> dict[str, np.ndarray]:
    """Every element of every leaf by its number."""
    found = jax.tree_util.tree_flatten_with_path(variables)[0]
    shapes = {path_name(path): np.shape(leaf) for path, leaf in found}
    offsets = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())])
    return {
        path: np.arange(math.prod(shape)).reshape(shape) + offset
        for (path, shape), offset in zip(shapes.items(), offsets, strict=False)
    }


def expected_generators(text: str, variables) -> dict:
    """The generators that a layout stands for."""
    numbers = numbered(variables)
    layout = parse(text, numbers)
    sizes = solve_sizes(layout, {path: n.shape for path, n in numbers.items()})
    arrays = []
    for path, labels in layout.leaves.items():
        each = [
            label.coordinates(size, sizes)
            for label, size in zip(labels, numbers[path].shape, strict=True)
        ]
        coordinates = [sum(choice, ()) for choice in itertools.product(*each)]
        arrays.append((numbers[path].ravel().tolist(), coordinates))
    groups = {n: s for n, s in sizes.items() if n.islower() and s > 1}
    return generators(arrays, groups, layout.within)


def found_generators(symmetry: Symmetry, variables) -> dict:
    """The generators of an inferred symmetry, from its blocks."""
    numbers: list[Any] = list(numbered(variables).values())
    arrays = []
    for block in symmetry.blocks:
        part = block.take(numbers[block.leaf]).ravel().tolist()
        names = [label or "_" for label in block.labels]
        indices = itertools.product(*map(range, block.shape))
        arrays.append((part, [tuple(zip(names, i, strict=True)) for i in indices]))
    sizes = {name: group.size for name, group in symmetry.groups.items()}
    within = {name: group.within for name, group in symmetry.groups.items()}
    return generators(arrays, sizes, within)


def elements_on_axes(symmetry: Symmetry, name: str, variables) -> list[set[int]]:
    """For each unit of a group the elements that `Group.axes` puts on it."""
    numbers, group = numbered(variables), symmetry.groups[name]
    units: list[set[int]] = [set() for _ in range(group.size)]
    for axis in group.axes:
        inner = math.prod(axis.shape[axis.factor + 1 :])
        for position in range(axis.stop - axis.start):
            elements = np.take(numbers[axis.path], axis.start + position, axis.axis)
            units[position // inner % group.size] |= set(np.ravel(elements).tolist())
    return units


def random_element(symmetry: Symmetry, variables, seed: int):
    """Variables after many random exchanges of units, made without the library."""
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(variables)
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves])
    moves = [
        np.array(sorted(m)) for m in found_generators(symmetry, variables).values()
    ]
    for number in rng.permutation(np.repeat(np.arange(len(moves)), 3)):
        places, origins = moves[number].T
        flat[places] = flat[origins]
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    moved = [
        part.reshape(np.shape(leaf)).astype(leaf.dtype)
        for part, leaf in zip(np.split(flat, ends), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def exchanges(symmetry: Symmetry, variables) -> dict[str, list[np.ndarray]]:
    """For each group the order of all elements after each exchange of two units."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in symmetry.groups}
    moves = found_generators(symmetry, variables)
    count = sum(part.size for part in numbered(variables).values())

    def order_after(move: Move) -> np.ndarray:
        order = np.arange(count)
        places, origins = np.array(sorted(move)).T
        order[places] = origins
        return order

    for name, block, i in moves:
        order = order_after(moves[name, block, i])
        found[name].append(order)
        for j in range(i + 1, symmetry.groups[name].size - 1):
            step = order_after(moves[name, block, j])
            order = step[order[step]]
            found[name].append(order)
    return found


def difference(symmetry: Symmetry, text: str, variables) -> tuple[str, str]:
    """What is missing and what is too much, in words; empty where nothing is."""
    expected = expected_generators(text, variables)
    found = found_generators(symmetry, variables)
    missing = set(expected.values()) - set(found.values())
    excess = set(found.values()) - set(expected.values())
    names = {key[0] for key, move in expected.items() if move in missing}
    groups = {key[0] for key, move in found.items() if move in excess}
    missed = "\n".join(f"not found: {name}, of\n{text}" for name in sorted(names))
    return missed, "\n".join(f"not expected: {name}" for name in sorted(groups))


def describe(symmetry: Symmetry) -> str:
    """The groups and pins of a symmetry, for the message of a failing test."""
    lines = []
    for name, group in symmetry.groups.items():
        lines.append(f"{name}: size {group.size}, within {group.within}{group.blocks}")
        lines += [f"    {axis}" for axis in group.axes]
    return "\n".join(lines + [f"pinned: {pin}" for pin in symmetry.pins])
