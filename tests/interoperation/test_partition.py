"""`optax.partition`: `rllc` on some parameters, Muon on others."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import rllc

INPUTS = jax.random.normal(jax.random.key(0), (32, 4))
TARGETS = INPUTS[:, :1] * INPUTS[:, 1:2]
MODEL = nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(1)])

OPTIMIZERS: dict[Hashable, optax.GradientTransformation] = {
    "rllc": rllc.rllc(0.02),
    "muon": optax.contrib.muon(0.02),
}


def by_shape(params):
    """Matrices to Muon, vectors to RLLC."""
    return jax.tree.map(lambda leaf: "muon" if leaf.ndim == 2 else "rllc", params)


def loss(params):
    outputs: Any = MODEL.apply(params, INPUTS)
    return jnp.mean((outputs - TARGETS) ** 2)


class Run(NamedTuple):
    """Parameters before and after each step, the gradients between, the last state."""

    params: list[Any]
    gradients: list[Any]
    state: Any


@pytest.fixture(scope="module")
def run():
    optimizer = optax.partition(OPTIMIZERS, by_shape)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, gradient

    params, gradients = [jax.jit(MODEL.init)(jax.random.key(1), INPUTS)], []
    state = optimizer.init(params[0])
    for _ in range(30):
        new, state, gradient = step(params[-1], state)
        params.append(new)
        gradients.append(gradient)
    return Run(params, gradients, state)


def test_both_parts_together_learn(run):
    assert loss(run.params[-1]) < 0.7 * loss(run.params[0])


def test_the_law_is_learned_from_its_own_part_alone(run):
    assert rllc.diagnostics(run.state).law.shape == (1, 3)
    units = jax.tree.leaves(optax.tree.get(run.state, "memory"))
    assert {unit.shape for unit in units} == {(8,), (1,)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_part_moves_as_its_own_optimizer_alone(name, run):
    optimizer = OPTIMIZERS[name]

    def part(tree):
        labels = jax.tree.leaves(by_shape(tree))
        pairs = zip(jax.tree.leaves(tree), labels, strict=True)
        return [leaf for leaf, label in pairs if label == name]

    update, state = jax.jit(optimizer.update), optimizer.init(part(run.params[0]))
    steps = zip(run.params[:-1], run.gradients, run.params[1:], strict=True)
    for before, gradient, after in steps:
        updates, state = update(part(gradient), state, part(before))
        moved = optax.apply_updates(part(before), updates)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            part(after),
            moved,
        )
