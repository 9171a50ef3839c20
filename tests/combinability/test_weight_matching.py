"""Matching by weights: coordinate ascent whose objective never falls."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import permutations as permutation
from combinability.matching import _objective, match, match_many, weight_matching
from combinability.symmetry import Symmetry
from tests.combinability.specs import by_hand

# Name -> shapes of leaves, groups, which group lies within which, pinned names.
NETWORKS = {
    "mlp": (
        {"in": (3, 5), "b": (5,), "mid": (5, 6), "out": (6, 2)},
        {"h": [("in", 1), ("b", 0), ("mid", 0)], "g": [("mid", 1), ("out", 0)]},
        {},
        (),
    ),
    "convolution": (
        {"in": (3, 3, 2, 4), "mid": (3, 3, 4, 4), "out": (4, 2)},
        {"h": [("in", 3), ("mid", 2)], "g": [("mid", 3), ("out", 0)]},
        {},
        (),
    ),
    "attention": (
        {"in": (3, 5), "q": (5, 3, 4), "k": (5, 3, 4), "v": (5, 3, 2), "o": (3, 2, 5)},
        {
            "s": [("in", 1), ("q", 0), ("k", 0), ("v", 0), ("o", 2)],
            "h": [("q", 1), ("k", 1), ("v", 1), ("o", 0)],
            "d": [("q", 2), ("k", 2)],
            "e": [("v", 2), ("o", 1)],
        },
        {"d": ("h",), "e": ("h",)},
        (),
    ),
    "grouped queries": (
        {"q": (4, 2, 3, 2), "k": (4, 2, 2), "o": (2, 3, 4)},
        {
            "h": [("q", 1), ("k", 1), ("o", 0)],
            "r": [("q", 2), ("o", 1)],
            "d": [("q", 3), ("k", 2)],
        },
        {"r": ("h",), "d": ("h",)},
        (),
    ),
    "recurrent": (
        {"in": (3, 6), "hh": (6, 6), "out": (6, 2)},
        {"h": [("in", 1), ("hh", 0), ("hh", 1), ("out", 0)]},
        {},
        (),
    ),
    "stacked layers": (
        {"in": (2, 4), "up": (3, 4, 5), "down": (3, 5, 4)},
        {
            "s": [("in", 1), ("up", 1), ("down", 2)],
            "l": [("up", 0), ("down", 0)],
            "h": [("up", 2), ("down", 1)],
        },
        {"h": ("l",)},
        ("l",),
    ),
}

names = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def network(name):
    shapes, groups, within, pinned = NETWORKS[name]
    whole = by_hand({n: jnp.zeros(s) for n, s in shapes.items()}, groups, within)
    free = {n: group for n, group in whole.groups.items() if n not in pinned}
    return Symmetry(free, (), whole.blocks, whole.leaves)


def weights(name, seed):
    shapes = NETWORKS[name][0]
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=s)) for n, s in shapes.items()}


def overlap(symmetry, a, b):
    pairs = zip(symmetry.split(a), symmetry.split(b), strict=True)
    return sum(float(jnp.vdot(x, y)) for x, y in pairs)


def every_permutation(symmetry):
    """All permutations of all groups of a symmetry."""
    rows = []
    for name, group in symmetry.groups.items():
        one = list(itertools.permutations(range(group.size)))
        count = int(np.prod(group.blocks))
        for chosen in itertools.product(one, repeat=count):
            index = np.array(chosen).reshape(*group.blocks, group.size)
            rows.append((name, index))
    by_name = [[row for row in rows if row[0] == name] for name in symmetry.groups]
    return [dict(chosen) for chosen in itertools.product(*by_name)]


def best_of(symmetry, a, b, permutations):
    stacked = {n: np.stack([p[n] for p in permutations]) for n in permutations[0]}
    parts = symmetry.split(a)

    def value(found):
        moved = symmetry.split(symmetry.apply(found, b))
        return sum(jnp.vdot(x, y) for x, y in zip(parts, moved, strict=True))

    return float(jax.jit(jax.vmap(value))(stacked).max())


@names
def test_the_objective_never_falls_and_is_the_overlap_of_aligned_weights(name, x64):
    symmetry = network(name)
    for seed in range(3):
        a, b = weights(name, seed), weights(name, seed + 100)
        found = weight_matching(symmetry, a, b, key=jax.random.key(seed))
        aligned = symmetry.apply(found.permutation, b)
        assert found.history[0] == pytest.approx(overlap(symmetry, a, b), abs=1e-9)
        assert (np.diff(found.history) >= 0).all()
        assert found.history[-1] == found.objective > found.history[0]
        assert float(found.objective) == pytest.approx(overlap(symmetry, a, aligned))


@names
def test_what_was_only_permuted_is_put_back_by_some_start(name, x64):
    symmetry, a = network(name), weights(name, 0)
    found = []
    for seed in range(6):
        moved = permutation.random(jax.random.key(seed), symmetry)
        b = symmetry.apply(moved, a)
        matching = weight_matching(symmetry, a, b, key=jax.random.key(seed))
        found.append(float(matching.objective))
    assert max(found) == pytest.approx(overlap(symmetry, a, a))


def test_one_group_is_matched_as_well_as_any_permutation_does(x64):
    symmetry = by_hand(weights("mlp", 0), {"h": NETWORKS["mlp"][1]["h"]})
    for seed in range(3):
        a, b = weights("mlp", seed), weights("mlp", seed + 10)
        found = weight_matching(symmetry, a, b, key=jax.random.key(0))
        best = best_of(symmetry, a, b, every_permutation(symmetry))
        assert float(found.objective) == pytest.approx(best)


def test_heads_are_matched_with_what_is_inside_as_well_as_any_permutation_does(x64):
    shapes = {"q": (3, 2, 3), "v": (2, 2, 3)}
    groups = {"h": [("q", 1), ("v", 0)], "d": [("q", 2)], "e": [("v", 1)]}
    rng = np.random.default_rng(0)
    a, b = (
        {n: jnp.asarray(rng.normal(size=s)) for n, s in shapes.items()} for _ in "ab"
    )
    symmetry = by_hand(a, groups, {"d": ("h",), "e": ("h",)})
    found = weight_matching(symmetry, a, b, key=jax.random.key(0))
    best = best_of(symmetry, a, b, every_permutation(symmetry))
    assert float(found.objective) == pytest.approx(best)


def test_no_other_permutation_of_one_group_alone_is_better(x64):
    symmetry = network("mlp")
    a, b = weights("mlp", 0), weights("mlp", 10)
    found = weight_matching(symmetry, a, b, key=jax.random.key(0))
    for name, group in symmetry.groups.items():
        rows = itertools.permutations(range(group.size))
        others = {n: np.asarray(index) for n, index in found.permutation.items()}
        moves = [{**others, name: np.array(row)} for row in rows]
        best = best_of(symmetry, a, b, moves)
        assert float(found.objective) == pytest.approx(best)


@names
def test_from_the_pinned_sides_the_objective_never_falls_either(name, x64):
    symmetry = network(name)
    a = weights(name, 0)
    b = symmetry.apply(permutation.random(jax.random.key(0), symmetry), a)
    found = weight_matching(symmetry, a, b, key=jax.random.key(0), start="pinned")
    assert (np.diff(found.history) >= 0).all()
    aligned = symmetry.apply(found.permutation, b)
    assert float(found.objective) == pytest.approx(overlap(symmetry, a, aligned))
    if name != "grouped queries":  # there no side is pinned but the model's
        assert float(found.objective) == pytest.approx(overlap(symmetry, a, a))


def test_products_whose_inputs_did_not_change_are_not_computed_again(monkeypatch):
    symmetry, computed = network("mlp"), []
    contract = _objective.contract

    def counted(subscripts, *operands):
        computed.append((subscripts, [x.shape for x in operands]))
        return contract(subscripts, *operands)

    monkeypatch.setattr(_objective, "contract", counted)
    a, b = weights("mlp", 0), weights("mlp", 1)
    found = weight_matching(symmetry, a, b, key=jax.random.key(0))
    # Per sweep only the kernel between the groups, once for each of them.
    assert len(computed) <= 3 + 2 * (len(found.history) - 1)
    terms = sum(len(group.axes) for group in symmetry.groups.values())
    computed.clear()
    weight_matching(symmetry, a, b, key=jax.random.key(0), start=found.permutation)
    assert len(computed) == terms


@pytest.mark.parametrize("function", [weight_matching, match])
def test_equal_calls_do_not_trace_again(function):
    traced = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: traced.append(event)
    )
    for seed in (0, 1):
        networks = weights("attention", seed), weights("attention", seed + 10)
        jax.block_until_ready(networks)
        traced.clear()
        function(network("attention"), *networks, key=jax.random.key(0))
    assert not [event for event in traced if "trace" in event]


def test_sweeps_are_counted_and_a_start_is_kept():
    symmetry = network("attention")
    a, b = weights("attention", 0), weights("attention", 1)
    key = jax.random.key(0)
    whole = weight_matching(symmetry, a, b, key=key)
    assert len(whole.history) > 2
    short = weight_matching(symmetry, a, b, key=key, max_sweeps=1)
    assert len(short.history) == 2
    rest = weight_matching(symmetry, a, b, key=key, start=short.permutation)
    assert rest.history[0] == pytest.approx(float(short.objective), rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_single(dtype):
    symmetry = network("mlp")
    half = [
        jax.tree.map(lambda x: x.astype(dtype), weights("mlp", seed)) for seed in (0, 1)
    ]
    single = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    key = jax.random.key(0)
    found = weight_matching(symmetry, *half, key=key)
    expected = weight_matching(symmetry, *single, key=key)
    assert found.objective == expected.objective
    jax.tree.map(np.testing.assert_array_equal, found.permutation, expected.permutation)


@pytest.mark.parametrize(
    "groups",
    [["h"], "h", lambda name, group: group.size == 5],
    ids=["list", "name", "predicate"],
)
def test_only_the_chosen_groups_are_matched_and_as_well_as_possible(groups, x64):
    symmetry, a, b = network("mlp"), weights("mlp", 0), weights("mlp", 1)
    fixed = {"g": jnp.array([3, 1, 5, 0, 2, 4])}
    for held in ({}, fixed):
        found = weight_matching(
            symmetry, a, b, key=jax.random.key(0), groups=groups, fixed=held
        )
        g = np.asarray(held.get("g", np.arange(6)))
        np.testing.assert_array_equal(found.permutation["g"], g)
        rows = itertools.permutations(range(5))
        best = best_of(symmetry, a, b, [{"h": np.array(r), "g": g} for r in rows])
        assert float(found.objective) == pytest.approx(best)


@pytest.mark.parametrize("held", ["h", "d"])
def test_parents_or_children_are_held_fixed_while_the_others_are_matched(held, x64):
    """Heads, and what is inside of them: all permutations of the rest are tried."""
    shapes = {"q": (3, 2, 3), "o": (2, 3, 2)}
    groups = {"h": [("q", 1), ("o", 0)], "d": [("q", 2), ("o", 1)]}
    rng = np.random.default_rng(0)
    a, b = (
        {n: jnp.asarray(rng.normal(size=s)) for n, s in shapes.items()} for _ in "ab"
    )
    symmetry = by_hand(a, groups, {"d": ("h",)})
    fixed = {"h": np.array([1, 0]), "d": np.array([[1, 2, 0], [2, 1, 0]])}
    fixed = {held: fixed[held]}
    everything = every_permutation(symmetry)
    allowed = [{**p, **fixed} for p in everything]
    for function in (weight_matching, match):
        found = function(symmetry, a, b, key=jax.random.key(0), fixed=fixed)
        np.testing.assert_array_equal(found.permutation[held], fixed[held])
        best = best_of(symmetry, a, b, allowed)
        assert float(found.objective) == pytest.approx(best)


def test_leaf_weights_weigh_the_objective(x64):
    symmetry, a, b = (
        network("attention"),
        weights("attention", 0),
        weights("attention", 1),
    )
    chosen = {"in": 0.5, "k": 0.0, "o": 3.0}
    found = weight_matching(symmetry, a, b, key=jax.random.key(0), leaf_weights=chosen)
    aligned = symmetry.apply(found.permutation, b)
    expected = sum(
        chosen.get(name, 1.0) * float(jnp.vdot(a[name], aligned[name])) for name in a
    )
    assert float(found.objective) == pytest.approx(expected)
    # A function of the path is the same; and so are networks that are scaled.
    again = weight_matching(
        symmetry,
        {name: leaf * chosen.get(name, 1.0) for name, leaf in a.items()},
        b,
        key=jax.random.key(0),
    )
    by_function = weight_matching(
        symmetry,
        a,
        b,
        key=jax.random.key(0),
        leaf_weights=lambda path: chosen.get(path, 1.0),
    )
    for other in (again, by_function):
        assert float(other.objective) == pytest.approx(float(found.objective))
        jax.tree.map(
            np.testing.assert_array_equal, other.permutation, found.permutation
        )


def test_a_leaf_of_weight_zero_is_ignored():
    symmetry, a = network("mlp"), weights("mlp", 0)
    back = permutation.random(jax.random.key(1), symmetry)
    b = symmetry.apply(permutation.invert(symmetry, back), a)
    wrong = {**b, "b": jnp.linspace(0, 100, 5), "out": 100 * jnp.ones((6, 2))}
    found = match(
        symmetry, a, wrong, key=jax.random.key(0), leaf_weights={"b": 0, "out": 0}
    )
    jax.tree.map(np.testing.assert_array_equal, found.permutation, dict(back))


def test_many_networks_keep_the_groups_that_are_not_matched(x64):
    symmetry = network("mlp")
    models = [weights("mlp", seed) for seed in range(3)]
    found = match_many(
        symmetry, models, key=jax.random.key(0), groups="h", leaf_weights={"in": 2.0}
    )
    aligned = [
        symmetry.apply(p, model)
        for p, model in zip(found.permutations, models, strict=True)
    ]
    for moved in found.permutations:
        np.testing.assert_array_equal(moved["g"], np.arange(6))
    pairs = itertools.combinations(aligned, 2)
    expected = np.mean(
        [
            sum((2 if n == "in" else 1) * float(jnp.vdot(x[n], y[n])) for n in x)
            for x, y in pairs
        ]
    )
    assert found.objective == pytest.approx(expected)
