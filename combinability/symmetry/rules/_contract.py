"""Operations that sum over axes: products, convolutions, reductions, windows."""

from typing import Any

from combinability.symmetry import _label
from combinability.symmetry._walk import Labels, Walk, pin_all
from combinability.symmetry.rules._registry import register_rule


@register_rule("dot_general")
def dot_general(walk: Walk, equation: Any, x: Labels, y: Labels) -> list[Labels]:
    """Contracted axes unify, batch axes unify and stay, the others pass."""
    (over_x, over_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    batch = [_label.unify(x[i], y[j]) for i, j in zip(batch_x, batch_y, strict=True)]
    for i, j in zip(over_x, over_y, strict=True):
        _label.unify(x[i], y[j])
    walk.contract(x, over_x, batch)
    walk.contract(y, over_y, batch)
    walk.consume(0, x)
    walk.consume(1, y)
    free_x = [x[i] for i in range(len(x)) if i not in (*over_x, *batch_x)]
    free_y = [y[j] for j in range(len(y)) if j not in (*over_y, *batch_y)]
    return [batch + free_x + free_y]


@register_rule("conv_general_dilated")
def convolution(walk: Walk, equation: Any, x: Labels, kernel: Labels) -> list[Labels]:
    """Input features unify with the kernel's, groups of features with one another."""
    numbers = equation.params["dimension_numbers"]
    groups = equation.params["feature_group_count"]
    if equation.params["batch_group_count"] != 1:
        return pin_all(equation, [x, kernel], "a convolution groups its batch")
    features = x[numbers.lhs_spec[1]]
    produced, taken = (kernel[axis] for axis in numbers.rhs_spec[:2])
    group, inside = _label.split(features, [groups, features.size // groups])
    group_out, _ = _label.split(produced, [groups, produced.size // groups])
    _label.unify(inside, taken)
    group = _label.unify(group, group_out)
    out: Labels = [_label.uniform(1)] * len(x)
    out[numbers.out_spec[0]] = x[numbers.lhs_spec[0]]
    out[numbers.out_spec[1]] = produced
    reason = "a convolution's window moves along it"
    shape = equation.outvars[0].aval.shape
    for place in range(2, len(x)):
        where = numbers.out_spec[place]
        out[where] = walk.pin(x, numbers.lhs_spec[place], reason, shape[where])
        walk.pin(kernel, numbers.rhs_spec[place], reason, 1)
    grouped = [label for axis, label in enumerate(x) if axis != numbers.lhs_spec[1]]
    walk.contract([inside, group, *grouped], [0], [group])
    walk.contract(kernel, [numbers.rhs_spec[1]], [group])
    walk.consume(0, x)
    return [out]


@register_rule(
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_and",
    "reduce_or",
    "reduce_xor",
)
def reduction(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """The order of what is summed is of no matter; the other axes pass."""
    axes = equation.params["axes"]
    walk.mix(x, axes)
    return [[label for axis, label in enumerate(x) if axis not in axes]]


@register_rule("argmax", "argmin")
def position_of_extreme(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """The position that is found depends on the order."""
    axes = equation.params["axes"]
    for axis in axes:
        walk.pin(x, axis, f"{equation.primitive.name} numbers them", 1)
    return [[label for axis, label in enumerate(x) if axis not in axes]]


@register_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Sums up to each position depend on the order."""
    axis = equation.params["axis"]
    reason = f"{equation.primitive.name} runs along it"
    return [[*x[:axis], walk.pin(x, axis, reason, x[axis].size), *x[axis + 1 :]]]


@register_rule("sort")
def sort(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """The sorted axis is pinned, the others unify."""
    joined = list(operands[0])
    for labels in operands[1:]:
        joined = [_label.unify(x, y) for x, y in zip(joined, labels, strict=True)]
    axis = equation.params["dimension"]
    joined[axis] = walk.pin(joined, axis, "they are sorted", joined[axis].size)
    return [joined] * len(operands)


@register_rule("top_k")
def top_k(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Indices are given back, so the axis is pinned."""
    axis = equation.params.get("axis", -1) % len(x)
    size = equation.outvars[0].aval.shape[axis]
    found = [*x[:axis], walk.pin(x, axis, "they are sorted", size), *x[axis + 1 :]]
    return [found] * 2


@register_rule(
    "reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window"
)
def window(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """Axes along which the window moves are pinned, the others pass."""
    params, shape = equation.params, equation.outvars[0].aval.shape
    results = []
    for labels in operands[: len(equation.outvars)]:
        out = []
        for axis, label in enumerate(labels):
            still = (
                params["window_dimensions"][axis] == params["window_strides"][axis] == 1
                and params["base_dilation"][axis] == 1
                and tuple(params["padding"][axis]) == (0, 0)
            )
            if not still:
                reason = "a pooling window moves along it"
                label = walk.pin(labels, axis, reason, shape[axis])
            out.append(label)
        results.append(out)
    return results
