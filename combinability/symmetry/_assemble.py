"""From labels to a `Symmetry`: names, groups, blocks, pins and carriers."""

from collections.abc import Iterable, Mapping, Sequence

from combinability.symmetry._blocks import Part, parts, places
from combinability.symmetry._fusion import Fusion
from combinability.symmetry._label import Label
from combinability.symmetry._nesting import may_lie_within, nesting
from combinability.symmetry._symmetry import (
    Axis,
    Block,
    Carrier,
    Group,
    Leaf,
    Pin,
    Symmetry,
    Trace,
)
from combinability.symmetry._walk import Operand, Walk

Names = Mapping[Label, str]


def assemble(
    walk: Walk,
    labels: Sequence[Sequence[Label]],
    leaves: Sequence[Leaf],
    trace: Trace,
) -> tuple[Symmetry, dict[str, Label]]:
    """The symmetry that the labels of a network's leaves say.

    Args:
        walk: the notes of the walk through the program.
        labels: for each leaf the labels of its axes.
        leaves: path, shape and dtype of each leaf.
        trace: the traced program and its inputs.

    Returns:
        The symmetry; the class of each of its groups.
    """
    fuse = Fusion(
        may_lie_within(walk.values, walk.contractions, walk.mixings),
        [
            place.atoms
            for of_leaf in labels
            for label in of_leaf
            for place in places(label)
        ],
    )
    nested = nesting(fuse.allowed)
    axes = _axes_of_classes(labels, leaves, fuse)
    free = [label for label in axes if not label.reason]
    outer = {other for label in free for other in nested[label]}
    shown = {label: axes[label] for label in axes if label in {*free, *outer}}
    named = _names(shown, leaves)
    groups = {
        named[label]: Group(
            label.size,
            tuple(axes[label]),
            tuple(named[other] for other in nested[label]),
            tuple(other.size for other in nested[label]),
        )
        for label in free
    }
    blocks = [
        _block(number, part, fuse, named)
        for number, of_leaf in enumerate(labels)
        for part in parts(of_leaf)
    ]
    carriers = [
        Carrier(operand.path, len(operand.value.iterated), _block(0, part, fuse, named))
        for operand in walk.operands
        for part in _carried(operand)
    ]
    symmetry = Symmetry(
        groups=groups,
        pins=tuple(_pins(axes)),
        blocks=tuple(b for b in blocks if not groups.keys().isdisjoint(b.labels)),
        leaves=tuple(leaves),
        inputs=", ".join(f"{x.dtype.name}{list(x.shape)}" for x in trace.inputs),
        trace=trace._replace(
            carriers=tuple(
                c for c in carriers if not groups.keys().isdisjoint(c.block.labels)
            )
        ),
    )
    return symmetry, {named[label]: label for label in free}


def _carried(operand: Operand) -> Iterable[Part]:
    """The parts of a value, with the axes along which scans stack it."""
    return parts([*operand.value.iterated, *operand.value.labels])


def _block(leaf: int, part: Part, fuse: Fusion, names: Names) -> Block:
    atoms = fuse(part.atoms)
    labels = tuple(names.get(atom) for atom in atoms)
    return Block(leaf, tuple(atom.size for atom in atoms), labels, part.steps)


def _axes_of_classes(labels, leaves, fuse: Fusion) -> dict[Label, list[Axis]]:
    """Where each class is, classes and places in the order of the leaves."""
    found: dict[Label, list[Axis]] = {}
    for leaf, of_leaf in zip(leaves, labels, strict=True):
        for number, label in enumerate(of_leaf):
            for place in places(label):
                atoms = fuse(place.atoms)
                shape = tuple(atom.size for atom in atoms)
                stop = place.start + place.size
                for factor, atom in enumerate(atoms):
                    if atom.kind == "variable":
                        axis = Axis(leaf.path, number, place.start, stop, shape, factor)
                        found.setdefault(atom, []).append(axis)
    return found


def _pins(axes: Mapping[Label, Sequence[Axis]]) -> Iterable[Pin]:
    """The pinned parts of all axes."""
    for label, places_of_label in axes.items():
        for axis in places_of_label:
            if label.reason:
                yield Pin(axis.path, axis.axis, axis.start, axis.stop, label.reason)


def _names(
    axes: Mapping[Label, Sequence[Axis]], leaves: Sequence[Leaf]
) -> dict[Label, str]:
    """A name for each class: the module that makes its units, and more if need be."""
    rank = {leaf.path: len(leaf.shape) for leaf in leaves}
    homes = {label: _home(places, rank) for label, places in axes.items()}
    names: dict[Label, str] = {}
    for detail in (_module, _with_axis, _with_factor, _with_segment):
        wanted = {label: detail(homes[label]) for label in axes if label not in names}
        for label, name in wanted.items():
            alone = list(wanted.values()).count(name) == 1
            if alone and name not in names.values():
                names[label] = name
    return names


def _home(places: Sequence[Axis], rank: Mapping[str, int]) -> Axis:
    """The last axis of the first matrix that has one: that of a layer's outputs."""

    def preference(axis: Axis) -> tuple[bool, bool, bool]:
        matrix = rank[axis.path] > 1
        return axis.axis == rank[axis.path] - 1, matrix, "bias" not in axis.path

    return max(places, key=preference)


def _module(axis: Axis) -> str:
    parts = axis.path.split("/")
    if len(parts) > 1 and parts[-1] == "value":
        parts = parts[:-1]
    if len(parts) > 1 and parts[0] in ("params", "batch_stats"):
        parts = parts[1:]
    return "/".join(parts[:-1]) if len(parts) > 1 else parts[0]


def _with_axis(axis: Axis) -> str:
    return f"{_module(axis)}:{axis.axis}"


def _with_factor(axis: Axis) -> str:
    return f"{_with_axis(axis)}({axis.factor})"


def _with_segment(axis: Axis) -> str:
    return f"{axis.path}:{axis.axis}({axis.factor})[{axis.start}:{axis.stop}]"
