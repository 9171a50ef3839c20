"""Labels: products, sums and their common refinements."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combinability.symmetry import _label
from combinability.symmetry._label import Label

CALM = settings(max_examples=60, deadline=None)
sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def product_of(parts):
    size = 1
    for part in parts:
        size *= part
    return size


def bounds_of(parts):
    return list(itertools.accumulate(parts))[:-1]


@CALM
@given(sizes)
def test_a_product_splits_into_its_factors(parts):
    labels = [_label.variable(size) for size in parts]
    pieces = _label.split(_label.product(labels), parts)
    assert [piece.resolve().size for piece in pieces] == parts
    for label, piece in zip(labels, pieces, strict=True):
        if label.size > 1:
            assert piece.resolve() is label


@CALM
@given(sizes)
def test_a_sum_is_cut_into_its_segments(parts):
    labels = [_label.variable(size) for size in parts]
    pieces = _label.cut(_label.concatenation(labels), bounds_of(parts))
    assert [piece.resolve() for piece in pieces] == labels


@CALM
@given(sizes, sizes)
def test_two_sums_share_the_union_of_their_bounds(first, second):
    total = max(sum(first), sum(second))
    first, second = [*first, total + 1 - sum(first)], [*second, total + 1 - sum(second)]
    whole = _label.variable(total + 1)
    for parts in (first, second):
        _label.unify(whole, _label.concatenation(map(_label.variable, parts)))
    ends = bounds_of([segment.size for segment in _label.segments(whole)])
    assert ends == sorted({*bounds_of(first), *bounds_of(second)})


@CALM
@given(st.permutations([2, 2, 3]), st.permutations([2, 2, 3]))
def test_two_products_are_refined_or_pinned(first, second):
    whole = _label.variable(12)
    for parts in (first, second):
        _label.unify(whole, _label.product(map(_label.variable, parts)))
    inner = [{product_of(parts[i:]) for i in range(1, 3)} for parts in (first, second)]
    chain = sorted(inner[0] | inner[1])
    nested = all(b % a == 0 for a, b in itertools.pairwise(chain))
    pinned = any(leaf.reason for leaf in _label.leaves(whole))
    assert pinned != nested
    if nested:
        found = [factor.size for factor in _label.factors(whole)]
        assert {product_of(found[i:]) for i in range(1, len(found))} == set(chain)


def test_uniform_joins_without_binding():
    label = _label.variable(6)
    assert _label.unify(_label.uniform(6), label) is label
    assert label.resolve().kind == "variable"
    assert label.reason is None


def test_a_uniform_part_of_a_sum_binds_no_units_to_one_another():
    label = _label.variable(6)
    padded = _label.concatenation([_label.uniform(2), _label.variable(4)])
    _label.unify(label, padded)
    assert [segment.size for segment in _label.segments(label)] == [2, 4]
    assert not any(leaf.reason for leaf in _label.leaves(label))


def test_segments_of_one_unit_are_not_uniform():
    joined = _label.concatenation([_label.variable(1), _label.variable(1)])
    label = _label.unify(_label.variable(2), joined)
    assert [segment.size for segment in _label.segments(label)] == [1, 1]


def test_two_constants_side_by_side_differ():
    joined = _label.concatenation([_label.uniform(3), _label.uniform(2)])
    label = _label.unify(joined, _label.variable(5))
    assert [segment.size for segment in _label.segments(label)] == [3, 2]


@CALM
@given(st.lists(st.integers(2, 4), min_size=2, max_size=3), st.data())
def test_a_cut_within_a_product_leaves_the_permutations_that_respect_it(parts, data):
    """What the pieces allow, laid side by side, is what the factors allow."""
    labels = [_label.variable(size) for size in parts]
    whole = _label.product(labels)
    inside = st.integers(1, whole.size - 1)
    bounds = sorted(data.draw(st.sets(inside, min_size=1, max_size=3)))
    pieces = _label.cut(whole, bounds)
    ends = [0, *bounds, whole.size]
    assert [piece.size for piece in pieces] == np.diff(ends).tolist()
    assert not any(leaf.reason for leaf in _label.leaves(whole))
    random = np.random.default_rng(0)
    moves: dict[_label.Label, np.ndarray] = {}
    for leaf in _label.leaves(whole):
        moves.setdefault(leaf, random.permutation(leaf.size))
    moved = np.concatenate(
        [start + permuted(p, moves) for start, p in zip(ends[:-1], pieces, strict=True)]
    )
    np.testing.assert_array_equal(permuted(whole, moves), moved)


def test_copies_of_a_class_side_by_side_are_a_product_with_what_tells_them_apart():
    """As patches of an image, whose channels meet a flattened kernel."""
    channels, window = _label.variable(5), [_label.variable(3), _label.variable(2)]
    _label.unify(
        _label.product([*window, _label.variable(5)]),
        _label.concatenation([channels] * 6),
    )
    assert channels.resolve().kind == "variable"
    assert channels.resolve().size == 5
    assert not channels.resolve().reason
    for axis in window:
        assert {leaf.size for leaf in _label.leaves(axis)} == {1}


def permuted(label, moves):
    """Where the positions of an axis come from, its units being permuted."""
    label = label.resolve()
    if label.kind == "variable":
        return moves[label]
    if label.kind == "uniform":
        return np.arange(label.size)
    parts = [permuted(part, moves) for part in label.parts]
    if label.kind == "sum":
        sizes = [part.size for part in label.parts]
        starts = np.cumsum([0, *sizes[:-1]])
        return np.concatenate([s + part for s, part in zip(starts, parts, strict=True)])
    shape = [len(part) for part in parts]
    grid = np.arange(label.size).reshape(shape)
    return grid[np.ix_(*parts)].reshape(-1)


def test_units_that_would_equal_a_part_of_themselves_are_pinned():
    half = _label.variable(3)
    inner = Label("sum", 3, [half, _label.uniform(0)])
    _label.unify(half, inner)
    assert half.resolve().reason


@pytest.mark.parametrize("join", [_label.product, _label.concatenation])
def test_pins_reach_every_part_and_the_first_reason_stays(join):
    parts = [_label.variable(2), _label.variable(3, "first")]
    whole = join(parts)
    _label.pin(whole, "second")
    assert [part.reason for part in parts] == ["second", "first"]


def test_a_variable_that_is_refined_stays_pinned_and_used():
    label = _label.use(_label.variable(6, "reason"))
    for part in _label.split(label, [2, 3]):
        assert part.reason == "reason"
        assert part.used
