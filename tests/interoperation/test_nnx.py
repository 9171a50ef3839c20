"""Flax NNX: a training loop with `rllc`, and its checkpoints by Orbax."""

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import rllc

INPUTS = jax.random.normal(jax.random.key(0), (32, 4))
TARGETS = INPUTS[:, :1] * INPUTS[:, 1:2]


class Network(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.hidden(x))))


def fresh():
    model = Network(nnx.Rngs(0))
    schedule = optax.cosine_decay_schedule(0.02, 40)
    return model, nnx.Optimizer(model, rllc.rllc(schedule), wrt=nnx.Param)


def mean_squared_error(model):
    return ((model(INPUTS) - TARGETS) ** 2).mean()


@nnx.jit
def step(model, optimizer):
    loss, gradient = nnx.value_and_grad(mean_squared_error)(model)
    optimizer.update(model, gradient)
    return loss


@pytest.fixture(scope="module")
def trained():
    model, optimizer = fresh()
    losses = [float(step(model, optimizer)) for _ in range(20)]
    return model, optimizer, losses


def test_a_network_learns_and_its_law_is_read(trained):
    _, optimizer, losses = trained
    assert losses[-1] < 0.7 * losses[0]
    found = rllc.diagnostics(nnx.as_pure(optimizer.opt_state))
    assert found.law.shape == (1, 3)
    assert found.skipped == 0


def test_the_steps_are_those_of_optax(trained):
    model, _ = fresh()
    graph, params, statistics = nnx.split(model, nnx.Param, ...)
    optimizer = rllc.rllc(optax.cosine_decay_schedule(0.02, 40))
    state = optimizer.init(params)

    @jax.jit
    def functional_step(params, statistics, state):
        def loss(params):
            model = nnx.merge(graph, params, statistics, copy=True)
            return mean_squared_error(model), nnx.state(model, nnx.Not(nnx.Param))

        gradient, statistics = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), statistics, state

    for _ in range(20):
        params, statistics, state = functional_step(params, statistics, state)
    for got, wanted in ((params, nnx.Param), (statistics, nnx.BatchStat)):
        expected = nnx.state(trained[0], wanted)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            nnx.filter_state(got, wanted),
            expected,
        )


def test_training_goes_on_bit_equal_from_a_checkpoint(trained, tmp_path):
    model, optimizer = fresh()
    for _ in range(10):
        step(model, optimizer)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "half", nnx.state((model, optimizer)))
        checkpointer.wait_until_finished()
        model, optimizer = fresh()
        abstract = nnx.state(nnx.eval_shape(fresh))
        nnx.update(
            (model, optimizer), checkpointer.restore(tmp_path / "half", abstract)
        )
    losses = [float(step(model, optimizer)) for _ in range(10)]
    assert losses == trained[2][10:]
    straight = nnx.state(trained[:2])
    jax.tree.map(np.testing.assert_array_equal, nnx.state((model, optimizer)), straight)
