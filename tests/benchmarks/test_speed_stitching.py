"""The measurement of stitching compares like with like."""

import jax
import jax.numpy as jnp
import optax
import pytest

from benchmarks.models import CNN
from benchmarks.speed import (
    measure_moments,
    measure_task_loss,
    moments_table,
    task_loss_table,
)
from benchmarks.speed._moments import MomentsSpeedConfig
from benchmarks.speed._task_loss import Networks, TaskLossSpeedConfig
from benchmarks.speed._two_passes import Loop, two_passes

SHAPE = (8, 8, 1)
SMALL = Networks(CNN(10, channels=(2, 2), features=4), SHAPE, ("Conv_1",))


@pytest.fixture(scope="module")
def trained():
    calls = []
    config = TaskLossSpeedConfig(rounds=3, seconds=0.01, batch_size=20)
    result = measure_task_loss(config, lambda *call: calls.append(call), SMALL)
    return result, calls


def test_all_implementations_take_the_same_steps(trained):
    (layer,) = trained[0]["layers"].values()
    assert layer["difference"] < 1e-5
    assert set(layer["samples_per_second"]) == {
        "train",
        "many",
        "by hand",
        "two passes",
    }
    assert min(layer["samples_per_second"].values()) > 0
    assert layer["by_hand"]["median"] > 0


def test_progress_and_table_cover_every_layer(trained):
    result, calls = trained
    assert calls[-1] == (3, 3)
    heading, *rows = task_loss_table(result)
    assert [row[0] for row in rows] == ["Conv_1"]
    assert {len(row) for row in rows} == {len(heading)}


def test_two_passes_run_both_networks_whole():
    module, x = SMALL.module, jnp.ones((20, *SHAPE))
    a, b = (module.init(jax.random.key(seed), x[:1]) for seed in (1, 2))
    optimizer = optax.sgd(0.1)
    step = Loop(two_passes(module, "Dense_1"), optimizer).step
    params = {"kernel": jnp.eye(10), "bias": jnp.zeros(10)}
    state = params, optimizer.init(params)
    given = (a, b, x, jnp.zeros(20, int)), jnp.arange(20)
    # Behind the last layer there is nothing: what is left is the two passes.
    whole = _flops(jax.jit(lambda variables, x: module.apply(variables, x)), a, x)
    assert _flops(step, state, *given) > 1.95 * whole


def _flops(function, *arguments):
    found = function.lower(*arguments).compile().cost_analysis()
    return found["flops"]


def test_measures_from_moments_have_the_values_of_their_definitions():
    config = MomentsSpeedConfig(samples=200, features=8, rounds=3)
    result = measure_moments(config)
    for measure in result["measures"].values():
        assert measure["difference"] < 1e-4
    heading, *rows = moments_table(result)
    assert {len(row) for row in rows} == {len(heading)}
    assert [row[0].partition(" (")[0] for row in rows] == ["CKA", "least squares"]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (TaskLossSpeedConfig, {"rounds": 2}, "rounds: expected at least 3, got 2"),
        (
            TaskLossSpeedConfig,
            {"seconds": 0.0},
            r"seconds: expected .* 0\.0",
        ),
        (
            TaskLossSpeedConfig,
            {"batch_size": 0},
            "expected at least 1, got 0",
        ),
        (MomentsSpeedConfig, {"rounds": 1}, "rounds: expected at least"),
        (MomentsSpeedConfig, {"features": 10_000}, "features"),
    ],
)
def test_a_configuration_that_cannot_be_timed_raises(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)
