"""Operations that move, join and cut axes."""

from collections.abc import Sequence
from typing import Any

from combinability.symmetry import _label
from combinability.symmetry._indices import (
    Axes,
    Columns,
    Counts,
    Index,
    Number,
    numbers_of,
    pin_known,
    repeated,
    same_class,
)
from combinability.symmetry._label import Label
from combinability.symmetry._walk import (
    Labels,
    Mixing,
    Walk,
    register_rule,
)


@register_rule("transpose")
def transpose(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Axes move with their labels."""
    return [[x[axis] for axis in equation.params["permutation"]]]


@register_rule("squeeze")
def squeeze(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Axes of size 1 are dropped."""
    gone = equation.params["dimensions"]
    return [[label for axis, label in enumerate(x) if axis not in gone]]


@register_rule("broadcast_in_dim")
def broadcast(walk: Walk, equation: Any, x: Labels, *_: Labels) -> list[Labels]:
    """New axes, and axes of size 1 that grow, are uniform."""
    shape = equation.params["shape"]
    out = [_label.uniform(size) for size in shape]
    for label, axis in zip(x, equation.params["broadcast_dimensions"], strict=True):
        if label.size == shape[axis]:
            out[axis] = label
    return [out]


@register_rule("reshape")
def reshape(walk: Walk, equation: Any, x: Labels, *_: Labels) -> list[Labels]:
    """Flattened axes become a product, and a product is taken apart.

    `dimensions` is the order in which the axes are read (Fortran order is the reverse).
    """
    shape = equation.params["new_sizes"]
    x = [x[axis] for axis in equation.params["dimensions"] or range(len(x))]
    if 0 in shape:
        return [[_label.uniform(size) for size in shape]]
    out: list[Label] = []
    taken, total = [], 1
    sizes, wanted = [], 1
    rest = [label for label in x if label.size != 1]
    for size in shape:
        sizes.append(size)
        wanted *= size
        while total < wanted:
            taken.append(rest.pop(0))
            total *= taken[-1].size
        if total == wanted:
            out += _label.split(_label.product(taken), sizes)
            taken, total, sizes, wanted = [], 1, [], 1
    return [out]


@register_rule("concatenate")
def concatenate(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """The axes along which values are joined become a sum; the others unify."""
    dimension = equation.params["dimension"]
    out = list(operands[0])
    for labels in operands[1:]:
        for axis, label in enumerate(labels):
            if axis != dimension:
                out[axis] = _label.unify(out[axis], label)
    out[dimension] = _label.concatenation([labels[dimension] for labels in operands])
    return [out]


@register_rule("stack")
def stack(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """The new axis is pinned; the others unify."""
    out = _label.unify_all(operands)
    new = _label.variable(len(operands), "each entry is a different array of a stack")
    out.insert(equation.params["axis"], new)
    return [out]


@register_rule("unstack")
def unstack(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """The axis that is dropped is pinned; the others pass."""
    axis = equation.params["axis"]
    walk.pin(x, axis, "each entry becomes an array of its own", 1)
    return [[*x[:axis], *x[axis + 1 :]] for _ in equation.outvars]


@register_rule("tile")
def tile(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """A repeated axis is a product with a uniform factor."""
    repeats = map(_label.uniform, equation.params["reps"])
    return [[_label.product(pair) for pair in zip(repeats, x, strict=True)]]


@register_rule("split")
def split(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """A sum is taken apart."""
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return [[*x[:axis], piece, *x[axis + 1 :]] for piece in _label.cut(x[axis], ends)]


@register_rule("slice")
def slice_(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """A segment of an axis is kept; a stride pins the axis."""
    params = equation.params
    strides = params["strides"] or (1,) * len(x)
    ranges = zip(params["start_indices"], params["limit_indices"], strict=True)
    out = []
    for axis, ((start, stop), stride) in enumerate(zip(ranges, strides, strict=True)):
        if stride == 1:
            out.append(segment(x[axis], start, stop))
            continue
        size = len(range(start, stop, stride))
        out.append(walk.pin(x, axis, "a slice skips some of them", size))
    return [out]


def segment(label: Label, start: int, stop: int) -> Label:
    """The part of an axis from `start` up to `stop`."""
    bounds = [bound for bound in (start, stop) if 0 < bound < label.size]
    if start == stop:
        return _label.uniform(0)
    return _label.cut(label, bounds)[1 if start else 0] if bounds else label


@register_rule("pad")
def pad(walk: Walk, equation: Any, x: Labels, value: Labels) -> list[Labels]:
    """Padding adds uniform segments; between entries it pins the axis."""
    out = []
    for axis, (low, high, interior) in enumerate(equation.params["padding_config"]):
        label = x[axis]
        if interior:
            size = label.size + low + high + interior * max(label.size - 1, 0)
            out.append(walk.pin(x, axis, "padding is inserted between them", size))
            continue
        kept = segment(label, max(-low, 0), label.size - max(-high, 0))
        sides = [_label.uniform(max(side, 0)) for side in (low, high)]
        out.append(_label.concatenation([sides[0], kept, sides[1]]))
    return [out]


@register_rule("rev")
def reverse(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """A reversed axis is pinned, another one thereafter."""
    out = list(x)
    for axis in equation.params["dimensions"]:
        out[axis] = walk.pin(x, axis, "their order is reversed", x[axis].size)
    return [out]


@register_rule("iota")
def iota(walk: Walk, equation: Any, *_: Labels) -> list[Labels]:
    """Positions along one axis; uniform along others."""
    out = Axes(map(_label.uniform, equation.params["shape"]))
    axis = equation.params["dimension"]
    out[axis] = _label.variable(out[axis].size)
    out.known = numbers_of(out[axis])
    return [out]


@register_rule("dynamic_slice")
def dynamic_slice(walk: Walk, equation: Any, x: Axes, *starts: Axes) -> list[Labels]:
    """Axes that are kept whole pass, the others are pinned."""
    out = Axes()
    for axis, size in enumerate(equation.params["slice_sizes"]):
        out.append(_picked(walk, x, axis, size, starts[axis].take(), out))
    return [out]


def _picked(
    walk: Walk,
    x: Labels,
    axis: int,
    size: int,
    known: Any,
    result: Axes,
    separate: Sequence[Label] = (),
) -> Label:
    """What is left of an axis of which an index picks some units, or all.

    Args:
        walk: the walk.
        x: the labels of the operand.
        axis: the axis.
        size: how many units are picked.
        known: what is known of the index.
        result: gets the selection, if it is one.
        separate: the labels of axes along which each unit has an index of its own.
    """
    if size == 1 < x[axis].size and same_class(x[axis], known):
        walk.pair([known.of], separate)
        if known.at.source is not None:
            result.at |= {known.at}
        return _label.uniform(1)
    pin_known(known)
    if size == x[axis].size:
        return x[axis]
    return walk.pin(x, axis, "an index selects some of them", size)


@register_rule("dynamic_update_slice")
def dynamic_update_slice(
    walk: Walk, equation: Any, x: Labels, update: Labels, *_: Labels
) -> list[Labels]:
    """Axes that are updated whole unify, the others are pinned."""
    out = []
    for axis, (label, new) in enumerate(zip(x, update, strict=True)):
        if label.size == new.size:
            out.append(_label.unify(label, new))
        else:
            walk.pin(update, axis, _WRITTEN, 1)
            out.append(walk.pin(x, axis, _WRITTEN, label.size))
    return [out]


@register_rule("gather")
def gather(walk: Walk, equation: Any, x: Axes, indices: Axes) -> list[Labels]:
    """Axes that are looked up are pinned, if not by an index of theirs; others pass."""
    numbers = equation.params["dimension_numbers"]
    sizes = equation.params["slice_sizes"]
    batching = numbers.operand_batching_dims
    known = _coordinates(indices, numbers.start_index_map)
    lookups = _index_labels(indices)
    for i, j in zip(batching, numbers.start_indices_batching_dims, strict=True):
        lookups[j] = _label.unify(x[i], lookups[j])
    found = [each for each in known.values() if isinstance(each, Index)]
    if len(found) < len(known):
        pin_known(x.take())  # what is out of bounds is replaced
    counted = [each.of for each in found if each.along and each.at.source is None]
    separate = [*(x[i] for i in batching), *counted]
    kept, out = [], Axes()
    for axis, size in enumerate(sizes):
        if axis not in batching:
            label = _picked(walk, x, axis, size, known.get(axis), out, separate)
            if axis not in numbers.collapsed_slice_dims:
                kept.append(label)
    rank = len(lookups) + len(kept)
    for i in range(rank):
        out.append((kept if i in numbers.offset_dims else lookups).pop(0))
    out.at = frozenset(s for s in out.at if s.on(out))
    return [out]


@register_rule(
    "scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"
)
def scatter(
    walk: Walk, equation: Any, x: Axes, indices: Axes, updates: Axes
) -> list[Labels]:
    """Axes that are written whole unify; others are pinned, if not by an index of them.

    Entries written to the same place are added up (or multiplied, …) in any order, but
    where one replaces the other their order matters.
    """
    numbers = equation.params["dimension_numbers"]
    windows = numbers.update_window_dims
    batching = numbers.operand_batching_dims
    known = _coordinates(indices, numbers.scatter_dims_to_operand_dims)
    every = not any(map(repeated, indices))
    written = [axis for axis in range(len(updates)) if axis not in windows]
    lookups = _index_labels(indices)
    for j, axis in enumerate(written):
        updates[axis] = _label.unify(updates[axis], lookups[j])
    out = Axes(x)
    for i, j in zip(batching, numbers.scatter_indices_batching_dims, strict=True):
        out[i] = _label.unify(x[i], updates[written[j]])
    replaces = equation.primitive.name == "scatter"
    summed = []
    for j, axis in enumerate(written):
        if j in numbers.scatter_indices_batching_dims:
            continue
        if replaces and not equation.params["unique_indices"]:
            _label.pin(updates[axis], "what is written last replaces the others")
        walk.mix(updates, [axis])
        summed.append(updates[axis])
    remaining = iter(windows)
    for axis, label in enumerate(x):
        if axis in batching:
            continue
        window = None if axis in numbers.inserted_window_dims else next(remaining)
        size = 1 if window is None else updates[window].size
        index = known.pop(axis, None)
        if window is None and label.size > 1 and same_class(label, index):
            out[axis] = index.of
            walk.mixings.append(Mixing(tuple(summed), (index.of,)))
            if updates.at - {index.at}:
                walk.mixings.append(Mixing((index.of,), tuple(updates)))
            ones = x.known == Number(0) and updates.known == Number(1)
            if every and ones and len(x) == 1:
                out.known = Counts(index.at.source, index.of)
            continue
        pin_known(index)
        if window is not None and size == label.size:
            out[axis] = _label.unify(label, updates[window])
            continue
        if window is not None:
            walk.pin(updates, window, _WRITTEN, size)
        out[axis] = walk.pin(x, axis, _WRITTEN, label.size)
    return [out]


_WRITTEN = "an index picks where they are written"


def _index_labels(indices: Axes) -> list[Label]:
    """The axes of an array of indices, the last of which numbers coordinates."""
    _label.pin(indices[-1], "its entries are coordinates")
    return list(indices[:-1])


def _coordinates(indices: Axes, axes: Sequence[int]) -> dict[int, Any]:
    """What is known of the index along each axis that is looked up or written."""
    known = indices.take()
    each = known.each if isinstance(known, Columns) else [known]
    if len(each) != len(axes):
        pin_known(known)
        return {}
    return dict(zip(axes, each, strict=True))
