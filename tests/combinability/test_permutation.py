"""Permutations form a group that acts on networks, nested groups included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combinability import permutations as permutation
from tests.combinability.specs import by_hand

# Two plain groups, heads with two groups within, and one within a group within heads.
SHAPES = {
    "in": (4, 6),
    "query": (6, 2, 5),
    "value": (2, 3, 6),
    "deep": (2, 3, 2, 4),
    "mix": (6, 4),
}
GROUPS = {
    "s": [("in", 1), ("query", 0), ("value", 2), ("mix", 0)],
    "h": [("query", 1), ("value", 0), ("deep", 0)],
    "q": [("query", 2)],
    "v": [("value", 1), ("deep", 1)],
    "w": [("deep", 2)],
}
WITHIN = {"q": ("h",), "v": ("h",), "w": ("h", "v")}

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


@functools.cache
def network():
    variables = {
        name: jax.random.normal(jax.random.key(i), shape)
        for i, (name, shape) in enumerate(SHAPES.items())
    }
    return by_hand(variables, GROUPS, WITHIN), variables


# Compiled once for all examples.
identity = jax.jit(lambda: permutation.identity(network()[0]))
random = jax.jit(lambda key: permutation.random(key, network()[0]))
compose = jax.jit(lambda x, y: permutation.compose(network()[0], x, y))
invert = jax.jit(lambda x: permutation.invert(network()[0], x))
apply = jax.jit(lambda x, variables: network()[0].apply(x, variables))


def drawn(seed):
    return random(jax.random.key(seed))


def assert_equal(first, second):
    assert first.keys() == second.keys()
    jax.tree.map(np.testing.assert_array_equal, dict(first), dict(second))


def test_the_identity_moves_nothing():
    _, variables = network()
    assert_equal(apply(identity(), variables), variables)


def test_random_rows_are_permutations_and_differ():
    symmetry, _ = network()
    found = drawn(0)
    for name, group in symmetry.groups.items():
        rows = np.asarray(found[name])
        assert rows.shape == (*group.blocks, group.size)
        assert (np.sort(rows, axis=-1) == np.arange(group.size)).all()
    rows = np.concatenate([drawn(seed)["w"].reshape(-1, 2) for seed in range(3)])
    assert len(np.unique(rows, axis=0)) == 2


def test_random_permutations_are_uniform():
    variables = {"in": jnp.ones((1, 3))}
    symmetry = by_hand(variables, {"h": [("in", 1)]})
    keys = jax.random.split(jax.random.key(0), 6000)
    found = jax.vmap(lambda key: permutation.random(key, symmetry)["h"])(keys)
    _, counts = np.unique(np.asarray(found), axis=0, return_counts=True)
    assert counts.shape == (6,)
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


@few
@given(seeds, seeds)
def test_applying_one_after_the_other_is_applying_their_composition(one, two):
    _, variables = network()
    inner, outer = drawn(one), drawn(two)
    together = apply(compose(outer, inner), variables)
    assert_equal(together, apply(outer, apply(inner, variables)))


@few
@given(seeds, seeds, seeds)
def test_composition_is_associative(one, two, three):
    x, y, z = drawn(one), drawn(two), drawn(three)
    assert_equal(compose(compose(x, y), z), compose(x, compose(y, z)))


@few
@given(seeds)
def test_the_inverse_undoes_from_both_sides(seed):
    _, variables = network()
    found = drawn(seed)
    inverse, nothing = invert(found), identity()
    assert_equal(compose(found, inverse), nothing)
    assert_equal(compose(inverse, found), nothing)
    assert_equal(apply(inverse, apply(found, variables)), variables)


def test_groups_that_are_not_named_stay():
    _, variables = network()
    only = {"h": jnp.array([1, 0])}
    full = {**identity(), **only}
    assert_equal(apply(compose(only, {}), variables), apply(full, variables))
    assert_equal(invert(only), full)


def test_a_pinned_parent_keeps_its_place():
    variables = {"stack": jnp.arange(12.0).reshape(3, 4)}
    whole = by_hand(
        variables, {"p": [("stack", 0)], "h": [("stack", 1)]}, {"h": ("p",)}
    )
    groups = {"h": whole.groups["h"]}
    symmetry = type(whole)(groups, (), whole.blocks, whole.leaves)
    found = permutation.random(jax.random.key(0), symmetry)
    assert found["h"].shape == (3, 4)
    inverse = permutation.invert(symmetry, found)
    composed = permutation.compose(symmetry, inverse, found)
    assert_equal(composed, permutation.identity(symmetry))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_perturb_moves_the_given_fraction_of_every_row(fraction):
    start = {
        "h": jax.random.permutation(jax.random.key(0), 20),
        "d": jnp.broadcast_to(jnp.arange(10), (3, 10)),
        "single": jnp.zeros((2, 1), int),
    }
    moved = permutation.perturb(jax.random.key(1), start, fraction)
    for name, index in start.items():
        size = index.shape[-1]
        rows = np.asarray(moved[name])
        assert (np.sort(rows, axis=-1) == np.arange(size)).all()
        count = (rows != np.asarray(index)).sum(-1)
        expected = round(fraction * size) if size > 1 else 0
        assert ((count == expected) | (count == expected + 1)).all()


def test_distance_counts_units():
    still = {"h": jnp.arange(4), "d": jnp.broadcast_to(jnp.arange(3), (2, 3))}
    turned = {"h": jnp.array([1, 2, 0, 3]), "d": jnp.array([[0, 1, 2], [0, 2, 1]])}
    assert float(permutation.distance(still, still)) == 0
    assert float(permutation.distance(still, turned)) == pytest.approx(5 / 10)
    assert float(permutation.distance(turned, {})) == pytest.approx(5 / 10)
    assert float(permutation.distance({}, {})) == 0
