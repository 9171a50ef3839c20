"""A symmetry as text: a table of its groups, and what is pinned by which reason."""

from collections.abc import Iterable

from combinability.symmetry._symmetry import Axis, Group, Pin, Symmetry

_WIDTH = 100


def table(symmetry: Symmetry) -> str:
    """The groups with their sizes and axes, then the pinned axes by reason.

    An axis is written `leaf:axis`; a part of one `leaf:axis[start:stop]`; a factor of a
    flattened axis by the sizes of all factors, the group's own in brackets.
    """
    units = sum(_units(group) for group in symmetry.groups.values())
    title = f"{len(symmetry.groups)} groups, {units} units"
    if symmetry.inputs:
        title += f", for inputs of {symmetry.inputs}"
    return "\n".join([title, *_groups(symmetry), *_pins(symmetry.pins)])


def _units(group: Group) -> int:
    count = group.size
    for size in group.blocks:
        count *= size
    return count


def _groups(symmetry: Symmetry) -> Iterable[str]:
    shapes = {leaf.path: leaf.shape for leaf in symmetry.leaves}
    rows = [
        (name, _size(group), " ".join(_axis(axis, shapes) for axis in group.axes))
        for name, group in symmetry.groups.items()
    ]
    width = max([5, *(len(name) for name, _, _ in rows)])
    yield ""
    yield f"{'group':<{width}}  {'size':>8}  axes"
    for name, size, axes in rows:
        yield from _wrapped(f"{name:<{width}}  {size:>8}  ", axes)
    outer = {n: g.within for n, g in symmetry.groups.items() if g.within}
    for name, within in outer.items():
        yield f"{name} lies within {', '.join(within)}: a permutation for each of them"


def _size(group: Group) -> str:
    return "·".join(map(str, (*group.blocks, group.size)))


def _axis(axis: Axis, shapes: dict[str, tuple[int, ...]]) -> str:
    text = f"{axis.path}:{axis.axis}"
    if (axis.start, axis.stop) != (0, shapes[axis.path][axis.axis]):
        text += f"[{axis.start}:{axis.stop}]"
    if len(axis.shape) > 1:
        sizes = [
            f"[{size}]" if factor == axis.factor else str(size)
            for factor, size in enumerate(axis.shape)
        ]
        text += f"({'×'.join(sizes)})"
    return text


def _pins(pins: Iterable[Pin]) -> Iterable[str]:
    reasons: dict[str, list[str]] = {}
    for pin in pins:
        reasons.setdefault(pin.reason, []).append(f"{pin.path}:{pin.axis}")
    yield ""
    yield "pinned"
    for reason, axes in reasons.items():
        yield from _wrapped("  ", f"{reason}: {' '.join(dict.fromkeys(axes))}")


def _wrapped(head: str, text: str) -> Iterable[str]:
    line = head
    for word in text.split(" "):
        if len(line) + len(word) > _WIDTH and line.strip():
            yield line.rstrip()
            line = " " * len(head)
        line += word + " "
    yield line.rstrip()
