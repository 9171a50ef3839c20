"""Matching from several starts, of many networks, and into wider ones."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import permutations as permutation
from combinability.matching import (
    activation_matching,
    embed,
    match,
    match_many,
    weight_matching,
)
from combinability.symmetry import infer_symmetry
from tests.combinability.families import FAMILIES
from tests.combinability.specs import by_hand

BLOCKS = 3


def residual(rng, width):
    """A residual network without biases: x + W₂ relu(W₁ x), three times."""
    deep = {
        f"{name}{i}": rng.normal(size=(width, width)) / np.sqrt(width)
        for i in range(BLOCKS)
        for name in ("up", "down")
    }
    stem = rng.normal(size=(2, width)) / np.sqrt(2)
    return {"stem": stem, **deep, "head": rng.normal(size=(width, 1)) / np.sqrt(width)}


@functools.cache
def residual_symmetry(width):
    ups, downs = (
        [(f"{name}{i}", axis) for i in range(BLOCKS)]
        for name, axis in (("up", 0), ("down", 1))
    )
    hidden = {f"h{i}": [(f"up{i}", 1), (f"down{i}", 0)] for i in range(BLOCKS)}
    stream = [("stem", 1), *ups, *downs, ("head", 0)]
    template = {
        name: jnp.zeros(leaf.shape)
        for name, leaf in residual(np.random.default_rng(0), width).items()
    }
    return by_hand(template, {"s": stream, **hidden})


def planted(width, noise, seed):
    """A network, a permuted copy with noise, and what puts the copy back."""
    rng, symmetry = np.random.default_rng(seed), residual_symmetry(width)
    a = residual(rng, width)
    deviations = {name: np.std(leaf) for name, leaf in a.items()}
    noisy = {
        name: jnp.asarray(leaf + noise * deviations[name] * rng.normal(size=leaf.shape))
        for name, leaf in a.items()
    }
    back = {n: jnp.asarray(rng.permutation(g.size)) for n, g in symmetry.groups.items()}
    b = symmetry.apply(permutation.invert(symmetry, back), noisy)
    return jax.tree.map(jnp.asarray, a), b, back


def overlap(symmetry, a, b):
    pairs = zip(symmetry.split(a), symmetry.split(b), strict=True)
    return sum(float(jnp.vdot(x, y)) for x, y in pairs)


def count_recovered(width, noise, trials, **options):
    """How often the planted permutation is found, and by each start one as good."""
    symmetry, counts = residual_symmetry(width), collections.Counter()
    for seed in range(trials):
        a, b, back = planted(width, noise, seed)
        found = match(symmetry, a, b, key=jax.random.key(seed), **options)
        true = overlap(symmetry, a, symmetry.apply(back, b))
        least = true - 1e-4 * abs(true)
        counts["planted"] += float(permutation.distance(found.permutation, back)) == 0
        counts["as good"] += float(found.objective) > least
        counts.update({name: end > least for name, end in found.starts.items()})
    return counts


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_planted_permutation_is_recovered(noise):
    counts = count_recovered(30, noise, trials=3, restarts=0)
    assert counts["planted"] == counts["as good"] == 3
    assert counts["annealed"] == counts["signatures"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("width", [30, 50])
def test_a_planted_permutation_is_recovered_in_95_of_100_trials(width, noise):
    counts = count_recovered(width, noise, trials=100)
    print(width, noise, dict(counts))
    assert counts["planted"] >= 95
    assert counts["as good"] >= 95
    if noise == 1.0:
        assert counts["identity"] <= 50  # it is the starts that make the difference


# Attention without inputs or outputs of its own: nothing is pinned but one axis.
SHAPES = {"in": (3, 6), "q": (6, 3, 4), "v": (6, 3, 2), "o": (3, 2, 6), "hh": (6, 6)}
GROUPS = {
    "s": [("in", 1), ("q", 0), ("v", 0), ("o", 2), ("hh", 0), ("hh", 1)],
    "h": [("q", 1), ("v", 1), ("o", 0)],
    "d": [("q", 2)],
    "e": [("v", 2), ("o", 1)],
}


@functools.cache
def attention():
    template = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    return by_hand(template, GROUPS, {"d": ("h",), "e": ("h",)})


def attention_weights(seed):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=s)) for n, s in SHAPES.items()}


def test_nested_groups_and_groups_on_two_axes_are_matched_from_all_starts(x64):
    symmetry, a = attention(), attention_weights(0)
    for seed in range(2):
        moved = permutation.random(jax.random.key(seed), symmetry)
        b = symmetry.apply(moved, a)
        found = match(symmetry, a, b, key=jax.random.key(seed), restarts=1)
        for start in ("pinned", "signatures", "annealed"):
            assert found.starts[start] == pytest.approx(overlap(symmetry, a, a))
        aligned = symmetry.apply(found.permutation, b)
        jax.tree.map(np.testing.assert_array_equal, aligned, a)


def test_a_match_is_as_good_as_each_start_and_as_plain_weight_matching(x64):
    symmetry = attention()
    for seed in range(4):
        a, b = attention_weights(seed), attention_weights(seed + 100)
        key = jax.random.key(seed)
        plain = weight_matching(symmetry, a, b, key=key)
        found = match(symmetry, a, b, key=key, restarts=2)
        assert found.starts["identity"] <= float(plain.objective) + 1e-9
        assert float(found.objective) == max(found.starts.values())
        assert float(found.objective) >= float(plain.objective)
        aligned = symmetry.apply(found.permutation, b)
        assert float(found.objective) == pytest.approx(overlap(symmetry, a, aligned))
    assert set(found.starts) == {
        "identity", "pinned", "signatures", "annealed", "perturbed 1", "perturbed 2"
    }  # fmt: skip


def test_a_group_that_nothing_leads_to_is_matched_by_signatures():
    """Both axes of a matrix permute: no side is pinned."""
    rng = np.random.default_rng(0)
    a = {"w": jnp.asarray(rng.normal(size=(8, 9)))}
    symmetry = by_hand(a, {"rows": [("w", 0)], "columns": [("w", 1)]})
    b = symmetry.apply(permutation.random(jax.random.key(1), symmetry), a)
    found = match(symmetry, a, b, key=jax.random.key(0), restarts=0)
    assert found.starts["signatures"] == pytest.approx(overlap(symmetry, a, a))


def test_dead_units_and_zero_networks_are_matched():
    symmetry = residual_symmetry(8)
    zeros = jax.tree.map(jnp.zeros_like, planted(8, 0.0, 0)[0])
    found = match(symmetry, zeros, zeros, key=jax.random.key(0), restarts=0)
    assert float(found.objective) == 0
    for name, group in symmetry.groups.items():
        rows = np.sort(np.asarray(found.permutation[name]))
        np.testing.assert_array_equal(rows, np.arange(group.size))


def pairwise(symmetry, models):
    pairs = itertools.combinations(models, 2)
    return float(np.mean([overlap(symmetry, *pair) for pair in pairs]))


def test_copies_are_matched_to_a_common_network(x64):
    symmetry, a = attention(), attention_weights(0)
    keys = jax.random.split(jax.random.key(1), 3)
    moved = [symmetry.apply(permutation.random(k, symmetry), a) for k in keys]
    models = [a, *moved]
    found = match_many(symmetry, iter(models), key=jax.random.key(0))
    for moved, model in zip(found.permutations, models, strict=True):
        aligned = symmetry.apply(moved, model)
        jax.tree.map(np.testing.assert_array_equal, aligned, models[0])
    assert found.objective == pytest.approx(overlap(symmetry, models[0], models[0]))


def test_the_common_objective_never_falls_and_the_first_network_stays(x64):
    symmetry = attention()
    models = [attention_weights(seed) for seed in range(3)]
    found = match_many(symmetry, models, key=jax.random.key(0), max_rounds=5)
    assert (np.diff(found.history) >= -1e-9).all()
    aligned = [
        symmetry.apply(moved, model)
        for moved, model in zip(found.permutations, models, strict=True)
    ]
    jax.tree.map(np.testing.assert_array_equal, aligned[0], models[0])
    assert found.objective == pytest.approx(pairwise(symmetry, aligned))
    assert found.objective > pairwise(symmetry, models)


def mlp(v, x):
    hidden = jnp.tanh(x @ v["in"] + v["b"])
    return jnp.tanh(hidden @ v["mid"]) @ v["out"]


def mlp_weights(seed, first, second):
    rng = np.random.default_rng(seed)
    shapes = {
        "in": (3, first),
        "b": (first,),
        "mid": (first, second),
        "out": (second, 2),
    }
    return {n: jnp.asarray(rng.normal(size=s)) for n, s in shapes.items()}


def mlp_symmetry(variables):
    return infer_symmetry(mlp, variables, jnp.zeros((1, 3)), certify=False)


def test_an_embedded_network_computes_the_same():
    narrow, wide = mlp_weights(0, 4, 5), mlp_weights(1, 7, 6)
    embedded = embed(mlp_symmetry(narrow), narrow, mlp_symmetry(wide))
    assert jax.tree.map(jnp.shape, embedded) == jax.tree.map(jnp.shape, wide)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(9, 3)), jnp.float32)
    np.testing.assert_allclose(mlp(embedded, x), mlp(narrow, x), rtol=1e-6)


def test_heads_and_head_sizes_are_embedded():
    family = FAMILIES["attention_by_reshape"]()
    symmetry = infer_symmetry(
        family.apply, family.variables, *family.inputs, certify=False
    )
    same = embed(symmetry, family.variables, symmetry)
    jax.tree.map(np.testing.assert_array_equal, same, family.variables)
    wide = {"q": jnp.ones((2, 3, 5)), "v": jnp.ones((3, 5, 2))}
    groups = {"h": [("q", 1), ("v", 0)], "d": [("q", 2), ("v", 1)]}
    small = {"q": jnp.ones((2, 2, 4)), "v": jnp.ones((2, 4, 2))}
    of = [by_hand(leaves, groups, {"d": ("h",)}) for leaves in (small, wide)]
    embedded = embed(of[0], small, of[1])
    expected = np.zeros((2, 3, 5))
    expected[:, :2, :4] = 1
    np.testing.assert_array_equal(embedded["q"], expected)


def test_units_are_matched_into_a_wider_layer_as_well_as_any_injection_does(x64):
    """One layer; all ways to choose and order three of five units are tried."""
    for seed in range(3):
        narrow, wide = mlp_weights(seed, 3, 4), mlp_weights(seed + 10, 5, 4)
        of = [mlp_symmetry(variables) for variables in (narrow, wide)]
        embedded = embed(of[0], narrow, of[1])
        found = match(of[1], embedded, wide, key=jax.random.key(0), groups=["in"])

        def value(rows, a=narrow, b=wide):
            rows = np.array(rows)
            pairs = [(a["in"], b["in"][:, rows]), (a["b"], b["b"][rows])]
            pairs += [(a["mid"], b["mid"][rows]), (a["out"], b["out"])]
            return sum(float(jnp.vdot(x, y)) for x, y in pairs)

        best = max(map(value, itertools.permutations(range(5), 3)))
        assert value(found.permutation["in"][:3].tolist()) == pytest.approx(best)
        assert float(found.objective) == pytest.approx(best)


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_a_narrow_network_is_found_in_a_wide_one(by):
    """The wide network holds the narrow one, permuted, and some units of its own."""
    narrow, extra = mlp_weights(0, 6, 7), mlp_weights(1, 9, 9)
    symmetry, wide_symmetry = mlp_symmetry(narrow), mlp_symmetry(extra)
    embedded = embed(symmetry, narrow, wide_symmetry)
    zero = jax.tree.map(lambda leaf: leaf == 0, embedded)
    # Of the others the units lead to outputs, but are weak.
    wide = jax.tree.map(lambda x, y, z: jnp.where(z, 0.1 * y, x), embedded, extra, zero)
    back = permutation.random(jax.random.key(2), wide_symmetry)
    b = wide_symmetry.apply(permutation.invert(wide_symmetry, back), wide)
    key = jax.random.key(3)
    if by == "weights":
        found = match(wide_symmetry, embedded, b, key=key)
    else:
        rng = np.random.default_rng(5)
        batches = [jnp.asarray(rng.normal(size=(1, 3)), jnp.float32) for _ in range(99)]
        found = activation_matching(wide_symmetry, embedded, b, batches, key=key)
    for name, group in symmetry.groups.items():
        units, planted = (p[name][: group.size] for p in (found.permutation, back))
        np.testing.assert_array_equal(units, planted)
