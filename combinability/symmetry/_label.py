"""Labels: which units the positions of an axis stand for, as trees that unify.

- A *variable* is a number of units that may be permuted: a group, as long as nothing
  pins it. A pinned variable has a reason why its units must stay.
- A *product*, row-major, is an axis that several are flattened into: height × width ×
  channels, heads × head size.
- A *sum* is an axis of segments one after another: a concatenation or a split.
- *Uniform* is an axis along which the value does not vary, so any permutation keeps it.

Two axes that meet in an elementwise operation or a contraction must be permuted alike:
their labels unify. Variables are refined for that (into products and sums) as far as
needed and no further. Labels that have no common refinement are pinned.
"""

import functools
import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence


class Label:
    """A node of a label. The functions of this module make and unify labels."""

    __slots__ = ("_bound", "kind", "link", "parts", "reason", "size", "used")

    def __init__(self, kind: str, size: int, parts: Sequence["Label"] = ()):
        self.kind = kind
        self.size = int(size)  # `jnp.split` gives NumPy integers
        self.parts = tuple(parts)
        self.reason: str | None = None
        self.link: Label | None = None  # its units are in the order of these
        self.used = False
        self._bound: Label | None = None

    def resolve(self) -> "Label":
        """Return the label that this one has become by unification."""
        label = self
        while label._bound is not None:
            label = label._bound
        if label is not self:
            self._bound = label
        return label

    def bind(self, other: "Label") -> None:
        """Make a variable stand for another label."""
        self._bound = other

    def __repr__(self) -> str:
        label = self.resolve()
        if label.kind == "variable":
            return f"{'!' if label.reason else 'v'}{id(label) % 9973}:{label.size}"
        if label.kind == "uniform":
            return f"u:{label.size}"
        sign = "*" if label.kind == "product" else "+"
        return f"({sign.join(map(repr, label.parts))})"


def variable(size: int, reason: str | None = None) -> Label:
    """New units of their own; pinned if a reason is given."""
    label = Label("variable", size)
    label.reason = reason
    return label


def uniform(size: int) -> Label:
    """An axis along which the value does not vary."""
    return Label("uniform", size)


def product(labels: Iterable[Label]) -> Label:
    """The label of axes that are flattened into one, row-major."""
    merged: list[Label] = []
    for label in labels:
        for factor in factors(label):
            if merged and merged[-1].kind == factor.kind == "uniform":
                merged[-1] = uniform(merged[-1].size * factor.size)
            else:
                merged.append(factor)
    if len(merged) <= 1:
        return merged[0] if merged else uniform(1)
    return Label("product", math.prod(f.size for f in merged), merged)


def concatenation(labels: Iterable[Label]) -> Label:
    """The label of axes that are joined one after another: a sum.

    Two uniform segments stay two, since their values differ. A segment of a single unit
    is one of its own, too.
    """
    found = [s for label in labels for s in segments(label) if s.size]
    if len(found) == 1:
        return found[0]
    return Label("sum", sum(s.size for s in found), found)


def factors(label: Label) -> list[Label]:
    """A label as factors, none of which is a product or of size 1."""
    label = label.resolve()
    if label.kind == "product":
        return [factor for part in label.parts for factor in factors(part)]
    return [] if label.size == 1 else [label]


def segments(label: Label) -> list[Label]:
    """A label as segments, none of which is a sum."""
    label = label.resolve()
    if label.kind == "sum":
        return [segment for part in label.parts for segment in segments(part)]
    return [label]


def leaves(label: Label) -> Iterator[Label]:
    """The variables of a label."""
    label = label.resolve()
    if label.kind == "variable":
        yield label
    for part in label.parts:
        yield from leaves(part)


def pin(label: Label, reason: str) -> Label:
    """Pins all of a label, and what it is sorted by; the first reason stays."""
    for leaf in leaves(label):
        if not leaf.reason:
            leaf.reason = reason
            if leaf.link:
                pin(leaf.link, reason)
    return label


def varies(label: Label) -> bool:
    """Whether no part of a label is uniform."""
    label = label.resolve()
    return label.kind != "uniform" and all(map(varies, label.parts))


def use(label: Label) -> Label:
    """Note that the outputs may depend on these units."""
    for leaf in leaves(label):
        leaf.used = True
    return label


def unify(first: Label, second: Label) -> Label:
    """Make two axes permute alike.

    Args:
        first: the label of an axis.
        second: the label of an axis of the same length, or of length 1.

    Returns:
        What both have become. A uniform part unifies with anything and binds nothing.

    Raises:
        ValueError: if the lengths differ and neither is 1.
    """
    first, second = first.resolve(), second.resolve()
    if first.size != second.size:
        if 1 not in (first.size, second.size):
            raise ValueError(
                f"labels: expected axes of one length, got {first.size} and "
                f"{second.size}"
            )
        return max(first, second, key=lambda label: label.size)
    if first is second or second.kind == "uniform":
        return first
    if first.kind == "uniform":
        return second
    if first.kind == "variable":
        return _bind(first, second)
    if second.kind == "variable":
        return _bind(second, first)
    if "sum" in (first.kind, second.kind):
        return _unify_segments(first, second)
    return _unify_factors(first, second)


def unify_all(values: Iterable[Sequence[Label]]) -> list[Label]:
    """Make the axes of several values permute alike, one by one."""
    return [functools.reduce(unify, axes) for axes in zip(*values, strict=True)]


def structure(label: Label) -> Hashable:
    """Equal for labels of the same variables in the same places."""
    label = label.resolve()
    if label.kind == "variable":
        return label
    parts = factors(label) if label.kind == "product" else segments(label)
    return label.kind, label.size, *(structure(x) for x in parts if x is not label)


def _bind(free: Label, label: Label) -> Label:
    label = _without_uniform(label)
    if free in leaves(label):
        return pin(label, "its units would have to match a part of themselves")
    if free.link:
        if label.kind == "variable" and not (label.link or label.reason):
            label.link = free.link
        else:
            pin(free, _SORTED)
            pin(label, _SORTED)
    if free.reason:
        pin(label, free.reason)
    if free.used:
        use(label)
    free.bind(label)
    return label


def _without_uniform(label: Label) -> Label:
    """A copy with new variables in place of uniform parts, to bind a variable to."""
    label = label.resolve()
    if label.kind == "uniform":
        return variable(label.size)
    if label.kind == "variable":
        return label
    make = product if label.kind == "product" else concatenation
    return make([_without_uniform(part) for part in label.parts])


def _unify_factors(first: Label, second: Label) -> Label:
    left, right, common = factors(first), factors(second), []
    while left and right:
        if left[-1].size < right[-1].size:
            left, right = right, left
        inner = right[-1].size
        if left[-1].size != inner:
            halves = _split_in_two(left[-1], inner)
            if halves is None:
                return _incompatible(first, second)
            left[-1:] = [factor for half in halves for factor in factors(half)]
        else:
            common.append(unify(left.pop(), right.pop()))
    return product(reversed(common))


def _unify_segments(first: Label, second: Label) -> Label:
    bounds = sorted({*_bounds(first), *_bounds(second)})
    pieces = [cut(label, bounds) for label in (first, second)]
    return concatenation([unify(x, y) for x, y in zip(*pieces, strict=True)])


def _incompatible(first: Label, second: Label) -> Label:
    reason = "its units are arranged in two ways that have no common refinement"
    pin(second, reason)
    return pin(first, reason)


def _bounds(label: Label) -> list[int]:
    """Where the segments of a label meet."""
    label = label.resolve()
    if label.kind == "sum":
        ends, end = [], 0
        for part in segments(label)[:-1]:
            end += part.size
            ends.append(end)
        return ends
    if label.kind == "product":
        first = factors(label)[0]
        return [end * (label.size // first.size) for end in _bounds(first)]
    return []


def split(label: Label, sizes: Sequence[int]) -> list[Label]:
    """The labels of an axis reshaped into several, row-major; pinned if impossible.

    Raises:
        ValueError: if the sizes do not multiply to that of the axis.
    """
    if math.prod(sizes) != label.size:
        raise ValueError(
            f"sizes: expected some that multiply to {label.size}, got {list(sizes)}"
        )
    if not label.size:
        return [uniform(size) for size in sizes]
    parts: list[Label] = []
    for position in range(len(sizes) - 1, 0, -1):
        halves = _split_in_two(label, sizes[position])
        if halves is None:
            reason = "a reshape cuts across its units"
            pin(label, reason)
            rest = [variable(size, reason) for size in sizes[: position + 1]]
            return rest + parts
        label, inner = halves
        parts.insert(0, inner)
    return [label, *parts]


def _split_in_two(label: Label, inner: int) -> tuple[Label, Label] | None:
    """An axis as (outer, inner) axes; `None` if it has no such arrangement."""
    label = label.resolve()
    outer = label.size // inner
    if label.size % inner:
        return None
    if inner == 1 or outer == 1:
        return (label, uniform(1)) if inner == 1 else (uniform(1), label)
    if label.kind == "uniform":
        return uniform(outer), uniform(inner)
    if label.kind == "variable":
        halves = _like(label, outer), _like(label, inner)
        label.bind(Label("product", label.size, halves))
        return halves
    if label.kind == "product":
        return _split_factors(factors(label), inner)
    pieces = [_split_in_two(part, inner) for part in segments(label)]
    if any(piece is None for piece in pieces):
        return None
    common = uniform(inner)
    for _, part in filter(None, pieces):
        common = unify(common, part)
    return concatenation([part for part, _ in filter(None, pieces)]), common


def _split_factors(parts: list[Label], inner: int) -> tuple[Label, Label] | None:
    taken: list[Label] = []
    while inner > 1:
        last = parts.pop()
        if inner % last.size == 0:
            taken.insert(0, last)
            inner //= last.size
            continue
        halves = _split_in_two(last, inner)
        if halves is None:
            return None
        parts.append(halves[0])
        taken.insert(0, halves[1])
        break
    return product(parts), product(taken)


def cut(label: Label, bounds: Sequence[int]) -> list[Label]:
    """The labels of an axis cut into segments.

    Args:
        label: the label of the axis.
        bounds: increasing positions inside the axis, where one segment ends and the
            next starts.

    Raises:
        ValueError: if they are not increasing positions inside the axis.
    """
    bounds = list(map(int, bounds))
    ends = [0, *bounds, label.size]
    if any(end >= after for end, after in itertools.pairwise(ends)):
        raise ValueError(
            f"bounds: expected increasing positions inside an axis of {label.size}, "
            f"got {bounds}"
        )
    pieces, done = [], 0
    for bound in bounds:
        piece, label = _cut_in_two(label, bound - done)
        pieces.append(piece)
        done = bound
    return [*pieces, label]


def _cut_in_two(label: Label, bound: int) -> tuple[Label, Label]:
    label = label.resolve()
    if label.kind == "uniform":
        return uniform(bound), uniform(label.size - bound)
    if label.kind == "variable":
        halves = _like(label, bound), _like(label, label.size - bound)
        label.bind(Label("sum", label.size, halves))
        return halves
    if label.kind == "product":
        first, *rest = factors(label)
        return _cut_factors(first, product(rest), bound)
    parts, before = segments(label), []
    while bound and bound >= parts[0].size:
        bound -= parts[0].size
        before.append(parts.pop(0))
    if bound:
        halves = _cut_in_two(parts.pop(0), bound)
        before.append(halves[0])
        parts.insert(0, halves[1])
    return concatenation(before), concatenation(parts)


def _cut_factors(first: Label, rest: Label, bound: int) -> tuple[Label, Label]:
    """A product cut in two, between units of its first factor or within one of them.

    If within one, that unit gets a segment of its own, and the rest is cut in the same
    place in every unit.
    """
    units, within = divmod(bound, rest.size)
    if not within:
        before, after = _cut_in_two(first, units)
        return product([before, rest]), product([after, rest])
    inner = _cut_in_two(rest, within)
    ends = [end for end in (units, units + 1) if 0 < end < first.size]
    outer = [product([part, rest]) for part in cut(first, ends)]
    before, after = outer[: units > 0], outer[(units > 0) + 1 :]
    return concatenation([*before, inner[0]]), concatenation([inner[1], *after])


_SORTED = "rows sorted by them are combined with other rows, or sliced"


def _like(label: Label, size: int) -> Label:
    """A part of a variable, pinned and used as the whole is."""
    if label.link:
        pin(label, _SORTED)
    part = variable(size, label.reason)
    part.used = label.used
    return part
