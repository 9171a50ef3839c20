"""Claims about the optimizers compared: their spaces, schedules and updates."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.baselines import (
    BASELINES,
    SCHEDULES,
    Horizon,
    Maker,
    Range,
    half_life_schedule,
    own_method,
    scale_by_aggmo,
)
from benchmarks.rllc import _tuning

STEPS = 60


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_lowers_a_loss_in_the_middle_of_its_space(name):
    method = BASELINES[name]
    target = jax.random.normal(jax.random.key(0), (4, 3))

    def loss(params):
        return jnp.mean((params["w"] - target) ** 2) + jnp.mean(params["b"] ** 2)

    @jax.jit
    def losses(hyper):
        optimizer = Maker(method, STEPS)(hyper)
        params = {"w": jnp.zeros((4, 3)), "b": jnp.ones(3)}

        def step(_, carry):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        last, state = jax.lax.fori_loop(
            0, STEPS, step, (params, optimizer.init(params))
        )
        if method.eval_params is not None:
            last = method.eval_params(state, last)
        return loss(params), loss(last)

    middle = {name: one.at(0.6) for name, one in method.space.items()}
    for schedule in range(len(SCHEDULES)):
        before, after = losses({**middle, "schedule": schedule})
        assert after < before


def test_all_rates_are_sought_over_three_decades():
    for method in BASELINES.values():
        sought = method.space[method.rate]
        assert sought.scale == "log"
        assert sought.high / sought.low == pytest.approx(1e3)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("constant", [2.0, 2.0, 2.0, 2.0, 2.0]),
        ("cosine", [2.0, 1.0, 1.0 - np.cos(np.pi / 10), 0.0, 0.0]),
        ("warmup_stable_decay", [0.4, 2.0, 1.0, 0.0, 0.0]),
    ],
)
def test_schedules_fall_from_the_peak_as_their_names_say(name, rates):
    rate = Horizon(100, SCHEDULES.index(name)).schedule(2.0)
    found = jax.vmap(rate)(jnp.array([0, 50, 90, 100, 105]))
    np.testing.assert_allclose(found, rates, atol=1e-6)


def test_the_cosine_is_that_of_optax():
    expected = optax.cosine_decay_schedule(2.0, STEPS)(7)
    np.testing.assert_allclose(Horizon(STEPS, 1).schedule(2.0)(7), expected)


def run(optimizer: Any, gradients):
    """Returns the updates for a row of gradients, and the last state."""
    state = optimizer.init(jnp.zeros_like(gradients[0]))
    updates = []
    for gradient in gradients:
        update, state = jax.jit(optimizer.update)(
            gradient, state, jnp.zeros_like(gradient)
        )
        updates.append(update)
    return np.array(updates), state


GRADIENTS = jax.random.normal(jax.random.key(0), (6, 4))


def test_schedule_free_is_the_same_whatever_the_schedule():
    method = BASELINES["schedule_free"]
    assert not method.scheduled
    constant, cosine = (
        run(Maker(method, 20)({"learning_rate": 0.1, "schedule": kind}), GRADIENTS)[0]
        for kind in (0, 1)
    )
    np.testing.assert_array_equal(constant, cosine)


def test_aggmo_averages_momentum_over_its_decays():
    decays = (0.0, 0.5, 0.9)
    updates, _ = run(scale_by_aggmo(decays), GRADIENTS)
    # From 0, a velocity is the sum of past gradients, weighted by powers of its decay.
    steps = np.arange(len(GRADIENTS))
    age = steps[:, None] - steps
    powers = [np.where(age >= 0, decay ** np.maximum(age, 0.0), 0) for decay in decays]
    expected = np.mean(powers, axis=0) @ np.asarray(GRADIENTS)
    np.testing.assert_allclose(updates, expected, rtol=1e-5, atol=1e-6)


def test_ademamix_ends_at_its_slow_decay_and_full_weight():
    steps = len(GRADIENTS)
    grown = Maker(BASELINES["ademamix"], steps)({"learning_rate": 1.0, "schedule": 0})
    settled: Any = optax.contrib.ademamix(lambda count: 1.0, b3=0.999, alpha=5.0)
    _, state = run(grown, GRADIENTS)
    args = (GRADIENTS[0], state, jnp.zeros(4))
    np.testing.assert_allclose(
        np.asarray(grown.update(*args)[0]),
        np.asarray(settled.update(*args)[0]),
        rtol=1e-5,
    )


def test_a_half_life_grows_linearly():
    decay = half_life_schedule(0.9, 0.999, 8)
    decays = np.array([decay(t) for t in range(9)])
    lives = np.log(0.5) / np.log(decays)
    np.testing.assert_allclose(lives, np.linspace(lives[0], lives[-1], 9), rtol=1e-3)
    np.testing.assert_allclose(decays[[0, -1]], [0.9, 0.999], rtol=1e-6)


def test_ranges_are_uniform_on_their_scale():
    assert Range(1e-3, 1e1).at(0.25) == pytest.approx(1e-2)
    assert Range(0.8, 1.0, "linear").at(0.25) == pytest.approx(0.85)
    assert Range(1e-3, 1e1).widened(10.0) == Range(1e-4, 1e2)
    assert Range(0.0, 2.0, "linear").widened(10.0) == Range(0.0, 20.0, "linear")
    assert Range(-2.0, -1.0, "linear").widened(10.0) == Range(-20.0, -0.1, "linear")


def with_space(**space):
    def optimizer(**hyper):
        return optax.sgd(hyper["learning_rate"])

    optimizer.space = space
    return optimizer


@pytest.mark.parametrize("low", [0.0, 0.001, -0.1])
def test_your_own_space_is_searched_on_the_scale_that_it_names(low):
    method = own_method(with_space(learning_rate=(low, 0.2, "linear")))
    rates = [trial["learning_rate"] for trial in _tuning.sample(method, 64)]
    assert low <= min(rates) <= max(rates) <= 0.2
    assert np.mean(rates) == pytest.approx((low + 0.2) / 2, abs=0.01)
    assert _tuning.describe(method) == {"learning_rate": [low, 0.2, "linear"]}


@pytest.mark.parametrize(
    "bounds",
    [
        (0.1, 1.0, "Log"),
        (0.1, 1.0, None),
        (0.1, math.inf),
        (0.1, math.nan),
        (-math.inf, 1.0, "linear"),
        (0.0, 1.0),
        (1.0, 0.1, "linear"),
        (0.1, "1.0"),
        (0.1,),
    ],
)
def test_a_space_that_cannot_be_searched_is_rejected(bounds):
    with pytest.raises(ValueError, match="methods: expected the attribute space"):
        own_method(with_space(learning_rate=bounds))


def needs_another(learning_rate, b1):
    return optax.adam(learning_rate, b1=b1)


def compares(learning_rate):
    return optax.sgd(learning_rate if learning_rate > 0.1 else 0.1)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (needs_another, "missing 1 required positional argument: 'b1'"),
        (lambda learning_rate: 3, "expected an Optax transformation, got 3"),
        (lambda learning_rate: optax.sgd, "expected an Optax transformation"),
        (optax.lbfgs, "value_fn"),
        (compares, "bool"),
    ],
)
def test_an_optimizer_that_makes_no_step_is_rejected(optimizer, said):
    with pytest.raises(ValueError, match=f"^methods: .*{said}"):
        own_method(optimizer)


def test_an_optimizer_may_be_made_for_the_layers_of_one_network():
    def by_layer(learning_rate):
        return optax.partition({"a": optax.sgd(learning_rate)}, {"hidden": "a"})

    assert own_method(by_layer).name == "by_layer"


def test_equal_makers_share_their_compilations():
    assert hash(Maker(BASELINES["adam"], 10)) == hash(Maker(BASELINES["adam"], 10))
    assert Maker(BASELINES["adam"], 10) != Maker(BASELINES["adam"], 11)
