"""Expected symmetries, written as one line a leaf.

    Dense_0/kernel      _ h              an axis is a class, or `_`: stays where it is
    Dense_0/bias        h
    query/kernel        r (h d=4)        a product, row-major; a size where needed
    Conv_0/kernel       _ _ a|b c        a sum of segments
    BatchNorm_0/*       c                several leaves, by pattern
    d within h                           each unit of h has its own permutation of d

Lower-case classes are groups. Capital ones stay; they are named so that a group may
lie within them. A number is a factor or segment of that size that stays. Leaves that
are not mentioned stay.
"""

import fnmatch
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Coordinate = tuple[tuple[str, int], ...]  # (class, unit) of each factor


class Atom(NamedTuple):
    """One class, or something that stays."""

    name: str
    given: int | None = None

    def size(self, sizes: Mapping[str, int]) -> int | None:
        return sizes.get(self.name) if self.given is None else self.given

    def solve(self, total: int, sizes: dict[str, int]) -> None:
        known = self.size(sizes)
        if self.name == "_":
            return
        known = sizes.setdefault(self.name, total if known is None else known)
        if known != total:
            raise ValueError(f"{self.name} has size {known}, not {total}")

    def coordinates(self, total: int, sizes: Mapping[str, int]) -> list[Coordinate]:
        return [((self.name, i),) for i in range(total)]


class Many(NamedTuple):
    """A product or a sum of labels."""

    parts: tuple["Atom | Many", ...]
    product: bool

    def size(self, sizes: Mapping[str, int]) -> int | None:
        known = [part.size(sizes) for part in self.parts]
        if any(size is None for size in known):
            return None
        numbers = [size for size in known if size is not None]
        return math.prod(numbers) if self.product else sum(numbers)

    def rest(self, total: int, sizes: Mapping[str, int]) -> int:
        """What is left for the one part of unknown size."""
        known = [size for part in self.parts if (size := part.size(sizes)) is not None]
        if not self.product:
            return total - sum(known)
        if total % math.prod(known):
            raise ValueError(f"{self.parts}: {total} is no multiple of {known}")
        return total // math.prod(known)

    def solve(self, total: int, sizes: dict[str, int]) -> None:
        for part in self.parts:
            size = part.size(sizes)
            if size is not None:
                part.solve(size, sizes)
        unknown = [part for part in self.parts if part.size(sizes) is None]
        if len(unknown) == 1:
            unknown[0].solve(self.rest(total, sizes), sizes)
        elif not unknown and self.size(sizes) != total:
            raise ValueError(f"{self.parts}: {self.size(sizes)} units, not {total}")

    def coordinates(self, total: int, sizes: Mapping[str, int]) -> list[Coordinate]:
        each = []
        for part in self.parts:
            size = part.size(sizes)
            size = self.rest(total, sizes) if size is None else size
            each.append(part.coordinates(size, sizes))
        if self.product:
            return [sum(choice, ()) for choice in itertools.product(*each)]
        return [
            ((f"part {number}", 0), *coordinate)
            for number, part in enumerate(each)
            for coordinate in part
        ]


def parse_axis(text: str) -> Atom | Many:
    """`(4 a)|b` as a label."""
    tokens = re.findall(r"[()|]|[\w=]+", text)

    def sum_of() -> Atom | Many:
        parts = [term()]
        while tokens and tokens[0] == "|":
            tokens.pop(0)
            parts.append(term())
        return parts[0] if len(parts) == 1 else Many(tuple(parts), False)

    def term() -> Atom | Many:
        token = tokens.pop(0)
        if token != "(":
            name, _, given = token.partition("=")
            given = name if name.isdigit() else given
            return Atom(name, int(given) if given else None)
        parts = []
        while tokens[0] != ")":
            parts.append(sum_of())
        tokens.pop(0)
        return Many(tuple(parts), True)

    label = sum_of()
    if tokens:
        raise ValueError(f"cannot read {text!r}")
    return label


class Layout(NamedTuple):
    """What is expected of each leaf, and which classes lie within which."""

    leaves: dict[str, tuple[Atom | Many, ...]]
    within: dict[str, tuple[str, ...]]


def parse(text: str, paths: Iterable[str]) -> Layout:
    """Reads the notation above; every line must match a leaf, and no leaf two lines."""
    leaves, within = {}, {}
    for line in filter(None, map(str.strip, text.splitlines())):
        pattern, *rest = line.split(maxsplit=1)
        if rest and rest[0].startswith("within "):
            within[pattern] = tuple(rest[0].split()[1:])
            continue
        axes = re.findall(r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|[^\s()])+", rest[0])
        matching = [path for path in paths if matches(path, pattern)]
        if not matching or leaves.keys() & set(matching):
            raise ValueError(f"no leaf, or one twice: {line!r} in {list(paths)}")
        leaves |= {path: tuple(map(parse_axis, axes)) for path in matching}
    return Layout(leaves, within)


def matches(path: str, pattern: str) -> bool:
    """The collection's name may be left out."""
    inside = path.partition("/")[2]
    return fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(inside, pattern)


def solve_sizes(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> dict:
    """The size of each class, from the shapes of the leaves."""
    sizes: dict[str, int] = {}
    for _ in range(4):
        for path, labels in layout.leaves.items():
            for label, size in zip(labels, shapes[path], strict=True):
                label.solve(size, sizes)
    return sizes
