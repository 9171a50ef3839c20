"""Operations that sum over axes: products, convolutions, reductions, windows."""

import functools
from typing import Any

from combinability.symmetry import _label
from combinability.symmetry._indices import (
    Axes,
    Counts,
    Index,
    index_of,
    numbers_of,
    pin_known,
)
from combinability.symmetry._label import Label
from combinability.symmetry._walk import Labels, Walk, register_rule


@register_rule("dot_general")
def dot_general(walk: Walk, equation: Any, x: Axes, y: Axes) -> list[Labels]:
    """Contracted axes unify, batch axes unify and stay, the others pass."""
    (over_x, over_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    batch = [_label.unify(x[i], y[j]) for i, j in zip(batch_x, batch_y, strict=True)]
    over = [_label.unify(x[i], y[j]) for i, j in zip(over_x, over_y, strict=True)]
    paired = [*batch, *over]
    selected = [s.of for s in x.at & y.at if s.on(x) and s.on(y) and s.on(paired)]
    walk.contract(x, over_x, [*batch, *selected])
    walk.contract(y, over_y, [*batch, *selected])
    walk.consume(0, x)
    walk.consume(1, y)
    free_x = [x[i] for i in range(len(x)) if i not in (*over_x, *batch_x)]
    free_y = [y[j] for j in range(len(y)) if j not in (*over_y, *batch_y)]
    out = Axes(batch + free_x + free_y)
    for labels, free in ((x, free_x), (y, free_y)):
        kept = [*batch, *free]
        out.at |= {s for s in labels.at if s.on(labels) and s.on(kept) and s.on(out)}
    return [out]


@register_rule("ragged_dot_general")
def ragged_dot(
    walk: Walk, equation: Any, x: Axes, y: Axes, sizes: Axes
) -> list[Labels]:
    """As `dot_general`; rows belong to experts, in order.

    Experts are pinned, and so are rows, except for rows that were sorted by an index of
    the experts, if the sizes say how often it gives each.
    """
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (over_x, over_y), (batch_x, batch_y) = numbers.dot_dimension_numbers
    (ragged,), experts = numbers.lhs_ragged_dimensions, numbers.rhs_group_dimensions
    batch = [_label.unify(x[i], y[j]) for i, j in zip(batch_x, batch_y, strict=True)]
    for i, j in zip(over_x, over_y, strict=True):
        _label.unify(x[i], y[j])
    rows = walk.selection_of_rows(x[ragged], sizes)
    if rows and len(experts) == 1 and ragged not in (*over_x, *batch_x):
        _label.use(_label.unify(y[experts[0]], rows.of))
        selected, at = [rows.of], [rows]
    else:
        reason = "rows are grouped by expert, in order"
        for label in sizes:
            _label.pin(label, reason)
        for axis in experts:
            walk.pin(y, axis, reason, y[axis].size)
        _label.pin(x[ragged], reason)
        walk.mix(x, [ragged])
        selected, at = [], []
    walk.contract(x, over_x, [*batch, *(s.of for s in x.at if s in at)])
    walk.contract(y, over_y, [*batch, *selected])
    walk.consume(0, x)
    free_x = [x[i] for i in range(len(x)) if i not in (*over_x, *batch_x)]
    gone = (*over_y, *batch_y, *experts)
    free_y = [y[j] for j in range(len(y)) if j not in gone]
    lead = [sizes[-1]] if ragged in over_x else []
    out = [*lead, *batch, *free_x, *free_y]
    return [Axes(out, None, [s for s in at if s.on(out)])]


@register_rule("conv_general_dilated")
def convolution(walk: Walk, equation: Any, x: Labels, kernel: Labels) -> list[Labels]:
    """Input features unify with the kernel's, groups of features with one another.

    Groups are taken off the features, or off the batch (`batch_group_count`); either
    way the outputs' features are groups × features of each.
    """
    params = equation.params
    numbers = params["dimension_numbers"]
    (batch_axis, feature_axis, *places), kernel_axes = (
        numbers.lhs_spec,
        numbers.rhs_spec,
    )
    batch, features = (
        _grouped(x[batch_axis], params["batch_group_count"]),
        _grouped(x[feature_axis], params["feature_group_count"]),
    )
    group, taken = _label.product([batch[0], features[0]]), features[1]
    own_group, produced = _grouped(kernel[kernel_axes[0]], group.size)
    group = _label.unify(group, own_group)
    _label.unify(taken, kernel[kernel_axes[1]])
    out: Labels = [_label.uniform(1)] * len(x)
    out[numbers.out_spec[0]] = batch[1]
    out[numbers.out_spec[1]] = _label.product([group, produced])
    reason = "a convolution's window moves along it"
    shape = equation.outvars[0].aval.shape
    for place, (axis, where) in enumerate(
        zip(places, numbers.out_spec[2:], strict=True)
    ):
        window = kernel_axes[place + 2]
        still = (
            kernel[window].size == params["window_strides"][place] == 1
            and params["lhs_dilation"][place] == 1
            and tuple(params["padding"][place]) == (0, 0)
        )
        out[where] = x[axis] if still else walk.pin(x, axis, reason, shape[where])
        walk.pin(kernel, window, reason, 1)
    windows = [kernel[axis] for axis in kernel_axes[2:]]
    along = [x[axis] for axis in places]
    walk.contract([taken, group, batch[1], *along], [0], [group])
    walk.contract([kernel[kernel_axes[1]], group, produced, *windows], [0], [group])
    walk.consume(0, x)
    return [out]


def _grouped(label: Label, count: int) -> list[Label]:
    """An axis as (groups, units of each)."""
    return _label.split(label, [count, label.size // count])


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
    """The order of what is summed does not matter; the other axes pass."""
    axes = equation.params["axes"]
    walk.mix(x, axes)
    return [[label for axis, label in enumerate(x) if axis not in axes]]


@register_rule("argmax", "argmin")
def position_of_extreme(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """The results are positions along the axis that is dropped."""
    (gone,) = equation.params["axes"]
    walk.mix(x, [gone])
    out = Axes(label for axis, label in enumerate(x) if axis != gone)
    out.known = walk.find_positions(x[gone], equation.invars[0].aval.dtype, out)
    return [out]


@register_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Sums up to each position depend on the order."""
    axis = equation.params["axis"]
    reason = "a cumulative sum, product or extremum runs along it"
    return [[*x[:axis], walk.pin(x, axis, reason, x[axis].size), *x[axis + 1 :]]]


@register_rule("sort")
def sort(walk: Walk, equation: Any, *operands: Axes) -> list[Labels]:
    """The others of several operands follow the first; the other axes unify.

    Sorted values do not depend on the order that they had, as long as none are equal.
    Sorting the positions along a class gives that class where each is there once; else
    rows in the order of its units.
    """
    params = equation.params
    axis, keys = params["dimension"], params["num_keys"]
    joined, along = _label.unify_all(operands), operands[0][axis]
    walk.mix(joined, [axis])
    known = [labels.take() for labels in operands]
    by, new = known[0], _label.variable(along.size, "they are sorted")
    if isinstance(by, Index) and keys == 1 and params["is_stable"] and not by.shifted:
        new, known[0] = _sorted_positions(walk, by, joined, axis, new)
    elif len(operands) > 1:
        dtype = equation.invars[0].aval.dtype
        if walk.find_positions(along, dtype, joined) is None:
            _label.pin(joined[axis], "they are sorted")
        for each in known[:keys]:
            pin_known(each)
        known[:keys] = [None] * keys
    out, results = [*joined[:axis], new, *joined[axis + 1 :]], []
    for number, each in enumerate(known):
        if isinstance(each, Counts):
            each = None
        elif isinstance(each, Index) and number:
            same = each.along and _label.structure(each.along) == _label.structure(
                joined[axis]
            )
            each = index_of(each.of, out, along=new if same else None)
        results.append(Axes(out, each))
    return results


def _sorted_positions(
    walk: Walk, by: Index, joined: list[Label], axis: int, new: Label
) -> tuple[Label, Index | None]:
    """The label of an axis that was sorted by an index, and the index thereafter."""
    along = joined[axis]
    distinct = by.along and _label.structure(by.along) == _label.structure(along)
    if distinct and by.of.size == along.size:
        return by.of, numbers_of(by.of)
    _label.pin(along, "they are sorted")
    if any(label.size > 1 for i, label in enumerate(joined) if i != axis):
        pin_known(by)
        return new, None
    rows = walk.rows_sorted_by(by, along.size)
    return rows, by._replace(at=by.at._replace(labels=(rows,)), along=None)


@register_rule("top_k")
def top_k(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """The largest values, and where they are."""
    axis = equation.params.get("axis", -1) % len(x)
    size = equation.outvars[0].aval.shape[axis]
    walk.mix(x, [axis])
    found = [*x[:axis], _label.variable(size, "they are sorted"), *x[axis + 1 :]]
    dtype = equation.invars[0].aval.dtype
    known = walk.find_positions(x[axis], dtype, found, along=found[axis])
    return [Axes(found), Axes(found, known)]


@register_rule("approx_top_k")
def approx_top_k(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Which values are found depends on their order."""
    axis = equation.params["reduction_dimension"] % len(x)
    size = equation.outvars[0].aval.shape[axis]
    pinned = walk.pin(x, axis, "an approximate top-k depends on their order", size)
    return [[*x[:axis], pinned, *x[axis + 1 :]]] * 2


@register_rule(
    "reduce_window",
    "reduce_window_max",
    "reduce_window_min",
    "reduce_window_sum",
    "select_and_gather_add",
    "select_and_scatter_add",
)
def window(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """Axes along which the window moves are pinned, the others unify and pass."""
    params, shape = equation.params, equation.outvars[0].aval.shape
    arrays = [labels for labels in operands if labels]  # starting values have no axes
    out: Labels = []
    for axis, size in enumerate(shape):
        still = (
            params["window_dimensions"][axis] == params["window_strides"][axis] == 1
            and params.get("base_dilation", [1] * len(shape))[axis] == 1
            and tuple(params["padding"][axis]) == (0, 0)
        )
        reason = "a pooling window moves along it"
        each = [x[axis] if still else walk.pin(x, axis, reason, size) for x in arrays]
        out.append(functools.reduce(_label.unify, each))
    return [out] * len(equation.outvars)


@register_rule("reduce")
def custom_reduction(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """Reductions by a function of the user's: the order may matter."""
    axes = equation.params["dimensions"]
    arrays = operands[: len(operands) // 2]
    joined = _label.unify_all(arrays)
    for axis in axes:
        walk.pin(joined, axis, "a function combines them one after another", 1)
    kept = [label for axis, label in enumerate(joined) if axis not in axes]
    return [kept] * len(arrays)


@register_rule("fft")
def fourier_transform(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """The transformed axes are pinned, the others pass."""
    out, shape = list(x), equation.outvars[0].aval.shape
    for axis in range(len(x) - len(equation.params["fft_lengths"]), len(x)):
        out[axis] = walk.pin(x, axis, "a Fourier transform runs along it", shape[axis])
    return [out]


@register_rule(
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "geqp3",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "qr",
    "schur",
    "svd",
    "tridiagonal",
)
def decomposition(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """The axes of matrices are pinned, others pass."""
    vector = equation.primitive.name == "lu_pivots_to_permutation"
    count = len(operands[0]) - (1 if vector else 2)
    for labels in operands:
        for axis in range(count, len(labels)):
            walk.pin(labels, axis, _MATRIX, 1)
    batch = _label.unify_all([labels[:count] for labels in operands])
    shapes = [result.aval.shape[count:] for result in equation.outvars]
    return [
        batch + [_label.variable(size, _MATRIX) for size in shape] for shape in shapes
    ]


@register_rule("triangular_solve", "tridiagonal_solve")
def solution(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """The axis that the matrix acts on is pinned, the one of right-hand sides passes.

    The matrix comes whole, or by its three diagonals.
    """
    *matrix, right = operands
    count = len(matrix[0]) - (1 if len(matrix) > 1 else 2)
    solved = count if equation.params.get("left_side", True) else count + 1
    for labels in matrix:
        for axis in range(count, len(labels)):
            walk.pin(labels, axis, _MATRIX, 1)
    batch = _label.unify_all([labels[:count] for labels in operands])
    out = [*batch, *right[count:]]
    out[solved] = walk.pin(right, solved, _MATRIX, right[solved].size)
    return [out]


_MATRIX = "a decomposition or solution of a linear system tells them apart"
