"""Straight-through matching: the loss at the midpoint falls on the given batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from combinability import permutations as permutation
from combinability.matching._match import weight_matching
from combinability.matching._straight_through import (
    _step,
    straight_through_matching,
)
from combinability.symmetry import infer_symmetry
from tests.combinability.families import FAMILIES

KEY = jax.random.key(0)
WIDTH = 32
SHAPES = {"in": (64, WIDTH), "b": (WIDTH,), "mid": (WIDTH, WIDTH), "out": (WIDTH, 10)}


def apply(v, x):
    x = jax.nn.relu(x @ v["in"] + v["b"])
    return jax.nn.relu(x @ v["mid"]) @ v["out"]


def loss(v, batch):
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(apply(v, x), y).mean()


@pytest.fixture(scope="module")
def batches():
    """Three of 200 digits each."""
    x, y = load_digits(return_X_y=True)
    x = jnp.asarray(x / 16 - 0.3, jnp.float32)
    y = jnp.asarray(y, jnp.int32)
    return [(x[i : i + 200], y[i : i + 200]) for i in (0, 200, 400)]


@pytest.fixture(scope="module")
def trained(batches):
    """Two networks from two initialisations."""
    optimizer = optax.adam(3e-3)
    data = jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)

    def train(key):
        keys = dict(zip(SHAPES, jax.random.split(key, len(SHAPES)), strict=True))
        weights = {
            name: jax.random.normal(keys[name], shape) * (2 / shape[0]) ** 0.5
            for name, shape in SHAPES.items()
        }
        weights["b"] = jnp.zeros(WIDTH)

        def step(carry, _):
            weights, state = carry
            gradient = jax.grad(loss)(weights, data)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(weights, updates), state), None

        carry = weights, optimizer.init(weights)
        return jax.lax.scan(step, carry, None, length=150)[0][0]

    both = jax.jit(jax.vmap(train))(jax.random.split(KEY))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in (0, 1)]


@pytest.fixture(scope="module")
def symmetry():
    weights = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    return infer_symmetry(apply, weights, jnp.zeros((1, 64)), certify=False)


@pytest.fixture(scope="module")
def match(symmetry, trained, batches):
    """The same each time: 20 steps of Adam."""

    def run():
        return straight_through_matching(
            symmetry,
            loss,
            *trained,
            batches,
            key=KEY,
            optimizer=optax.adam(0.01),
            steps=20,
        )

    return run


@pytest.fixture(scope="module")
def matched(match):
    return match()


def midpoint_loss(symmetry, found, trained, batches):
    a, b = trained
    middle = jax.tree.map(lambda x, y: (x + y) / 2, a, symmetry.apply(found, b))
    return np.mean([loss(middle, batch) for batch in batches])


def test_the_midpoint_becomes_better_than_by_weights(
    symmetry, trained, batches, matched
):
    by_weights = weight_matching(symmetry, *trained, key=KEY).permutation
    before = midpoint_loss(symmetry, by_weights, trained, batches)
    after = midpoint_loss(symmetry, matched.permutation, trained, batches)
    np.testing.assert_allclose(matched.history[0], before, rtol=1e-5)
    np.testing.assert_allclose(matched.objective, after, rtol=1e-5)
    assert after < before


def test_the_loss_is_averaged_after_each_pass_and_the_last_step(matched):
    """20 steps over 3 batches: the start, 6 whole passes, and what was left."""
    assert matched.history.shape == (8,)
    assert matched.objective == matched.history.min()


def test_the_permutation_is_one_of_the_symmetry(symmetry, trained, batches, matched):
    for name, index in matched.permutation.items():
        assert sorted(index.tolist()) == list(range(symmetry.groups[name].size))
    moved = symmetry.apply(matched.permutation, trained[1])
    x = batches[0][0]
    expected = apply(trained[1], x)
    np.testing.assert_allclose(apply(moved, x), expected, rtol=1e-3, atol=1e-3)


def test_it_is_deterministic(match, matched):
    again = match()
    np.testing.assert_array_equal(again.history, matched.history)
    for name, index in again.permutation.items():
        np.testing.assert_array_equal(index, matched.permutation[name])


def test_any_optimizer_and_any_start_will_do(symmetry, trained, batches):
    start = permutation.random(jax.random.key(1), symmetry)
    found = straight_through_matching(
        symmetry,
        loss,
        *trained,
        iter(batches),
        key=KEY,
        start={"in": start["in"]},
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
        steps=3,
    )
    given = midpoint_loss(symmetry, {"in": start["in"]}, trained, batches)
    np.testing.assert_allclose(found.history[0], given, rtol=1e-5)
    assert found.objective < given


def test_the_best_permutation_is_returned_where_later_ones_are_worse(
    symmetry, trained, batches
):
    """Steps that undo the start's overlap with a: the permutations get worse."""
    found = straight_through_matching(
        symmetry,
        loss,
        *trained,
        batches,
        key=KEY,
        optimizer=optax.chain(optax.add_noise(30.0, 0.0, 0), optax.sgd(1.0)),
        steps=3,
    )
    by_weights = weight_matching(symmetry, *trained, key=KEY).permutation
    assert found.history[-1] > found.history[0] == found.objective
    for name, index in by_weights.items():
        np.testing.assert_array_equal(found.permutation[name], index)


def test_the_gradient_is_that_of_the_midpoint_by_the_surrogate(
    symmetry, trained, batches
):
    """At θ = π(b), as ½(a + θ) has it: a step of size 1 subtracts just that."""
    a, b = trained
    found = permutation.random(jax.random.key(2), symmetry)
    moved = symmetry.apply(found, b)

    def of_surrogate(theta):
        return loss(jax.tree.map(lambda x, y: (x + y) / 2, a, theta), batches[0])

    expected = symmetry.split(jax.grad(of_surrogate)(moved))
    optimizer = optax.sgd(1.0)
    start = [jnp.zeros_like(part) for part in expected]
    state = optimizer.init(start)
    stepped, _, finite = _step(
        symmetry, loss, optimizer, start, state, found, a, b, batches[0]
    )
    assert finite
    for new, gradient in zip(stepped, expected, strict=True):
        np.testing.assert_allclose(new, -gradient, rtol=1e-4, atol=1e-6)


def test_equal_calls_do_not_trace_the_loss_again(symmetry, trained, batches):
    traced = []

    def counted(v, batch):
        traced.append(1)
        return loss(v, batch)

    optimizer = optax.sgd(0.1)
    for key in (0, 1):
        straight_through_matching(
            symmetry,
            counted,
            *trained,
            batches[:1],
            key=jax.random.key(key),
            optimizer=optimizer,
            steps=1,
        )
        assert len(traced) == 2  # the loss, and its gradient


def test_groups_that_are_not_matched_stay(symmetry, trained, batches):
    fixed = permutation.random(jax.random.key(1), symmetry)["in"]
    found = straight_through_matching(
        symmetry,
        loss,
        *trained,
        batches,
        key=KEY,
        optimizer=optax.adam(0.01),
        steps=6,
        fixed={"in": fixed},
        leaf_weights={"b": 0.0},
    )
    np.testing.assert_array_equal(found.permutation["in"], fixed)
    after = midpoint_loss(symmetry, found.permutation, trained, batches)
    np.testing.assert_allclose(found.objective, after, rtol=1e-5)
    assert found.objective == found.history.min()


@pytest.mark.parametrize("name", ["attention_by_reshape", "integer_leaves"])
def test_nested_groups_and_leaves_that_do_not_combine(name):
    """A permuted copy: all the way back, the midpoint is the network itself."""
    family = FAMILIES[name]()
    symmetry = infer_symmetry(
        family.apply, family.variables, *family.inputs, certify=False
    )
    target = family.apply(family.variables, *family.inputs)

    def distance(variables, inputs):
        return jnp.mean((family.apply(variables, *inputs) - target) ** 2)

    planted = permutation.random(jax.random.key(1), symmetry)
    b = symmetry.apply(planted, family.variables)
    found = straight_through_matching(
        symmetry, distance, family.variables, b, [family.inputs], key=KEY, steps=2
    )
    assert float(found.objective) < 1e-10
