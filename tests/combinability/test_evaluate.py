"""The engine gives what a loop gives, however the work is cut up or interrupted."""

import os
import pathlib
import signal
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import _batch
from combinability._coefficients import bernoulli, line, normal, simplex, uniform
from combinability._combine import combine, combine_many
from combinability._evaluate import evaluate, evaluate_many
from combinability._metric import trace
from combinability._program import Program, make_task
from tests.combinability import killed_run
from tests.combinability.killed_run import SAMPLES, metric, network, run

KEY = jax.random.key(3)


def one_device():
    return jax.local_devices()[:1]


def task_of(metric, models):
    def combined(models, coefficients):
        return combine(models[0], models[1], coefficients)

    return make_task(metric, models, combined, uniform(), KEY, tuple(one_device()))


def assert_equal(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        if tolerance and x.dtype != bool:
            np.testing.assert_allclose(x, y, **tolerance)
        else:
            np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def uninterrupted():
    return run()


@pytest.fixture(scope="module")
def in_float64():
    """A plain loop: one draw, one combination, one evaluation at a time."""
    with jax.enable_x64(True):
        a, b, distribution = network(1), network(2), uniform(-0.2, 1.2)
        step = jax.jit(lambda i: metric(combine(a, b, distribution.sample(KEY, i, a))))
        values = [step(i) for i in range(SAMPLES)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *values)


@pytest.mark.parametrize(
    ("batch", "devices"), [(1, 1), (3, 1), (8, 1), (200, 1), (1, 8), (3, 3), (7, 8)]
)
def test_every_batch_and_number_of_devices_gives_what_a_loop_gives(
    in_float64, x64, batch, devices
):
    found = run(batch=batch, devices=jax.local_devices()[:devices])
    assert_equal(found, in_float64, rtol=1e-12, atol=1e-13)


def test_float32_values_agree_to_rounding(uninterrupted):
    found = run(batch=8, devices=jax.local_devices()[:4])
    assert found["outputs"].shape == (SAMPLES, 2, 3)
    assert found["positive"].dtype == bool
    for name in ("mean", "outputs"):
        np.testing.assert_allclose(
            found[name], uninterrupted[name], rtol=2e-5, atol=2e-6
        )


def test_the_number_of_devices_changes_no_bit(uninterrupted):
    assert len(jax.local_devices()) > 1
    assert_equal(run(devices=jax.local_devices()), uninterrupted)


def test_combinations_are_the_same_bits_for_every_batch_and_number_of_devices():
    a, b = network(1), network(2)
    options = {"key": KEY, "samples": 9}
    alone = evaluate(
        lambda v: v, a, b, normal(), batch=1, devices=one_device(), **options
    )
    together = evaluate(lambda v: v, a, b, normal(), batch=4, **options)
    assert_equal(together, alone)
    one = jax.jit(lambda i: combine(a, b, normal().sample(KEY, i, a)))
    for i, leaf in enumerate(alone["layer_0"]):
        np.testing.assert_allclose(leaf, one(i)["layer_0"], rtol=1e-6, atol=1e-6)


def test_the_first_samples_of_a_longer_run_are_a_shorter_run(uninterrupted):
    shorter = run(samples=13)
    assert_equal(shorter, jax.tree.map(lambda x: x[:13], uninterrupted))


def test_the_chosen_batch_gives_the_same_values(uninterrupted, monkeypatch):
    monkeypatch.setattr(_batch, "_TIMING_SECONDS", 0.002)
    found = run(batch=None)["mean"]
    np.testing.assert_allclose(found, uninterrupted["mean"], rtol=2e-5, atol=1e-7)


def test_lanes_change_no_bit():
    task = task_of(metric, (network(1), network(2)))
    for looped in (True, False):
        program = Program(task, 2, looped).in_lanes(3)
        alone = program.in_lanes(1)(5, 29)
        for x, y in zip(program(5, 29), alone, strict=True):
            np.testing.assert_array_equal(x, y)
            assert len(x) == 29


def test_convolutions_on_a_cpu_are_evaluated_one_by_one(monkeypatch):
    monkeypatch.setattr(_batch, "_TIMING_SECONDS", 0.002)
    module, x = nn.Conv(3, (2, 2)), jnp.ones((1, 4, 4, 2))
    a, b = (module.init(jax.random.key(seed), x) for seed in (1, 2))
    tried = []
    monkeypatch.setattr(
        _batch, "Program", lambda *args: tried.append(args[1]) or Program(*args)
    )

    def total(variables):
        return jnp.sum(jnp.asarray(module.apply(variables, x)))

    found = evaluate(total, a, b, line(9), key=KEY, samples=9, devices=one_device())
    assert set(tried) == {1}
    expected = np.linspace(total(b), total(a), 9)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_metric_is_traced_once_and_compiled_once_for_all_segments():
    traces, calls = [], []

    def counted(variables):
        traces.append(1)
        return metric(variables)

    evaluate(
        counted, network(1), network(2), uniform(), key=KEY, samples=SAMPLES,
        batch=3, devices=one_device(), progress=lambda *done: calls.append(done),
    )  # fmt: skip
    assert len(traces) == 1
    assert len(calls) > 2
    assert [total for _, total in calls] == [SAMPLES] * len(calls)
    done = [count for count, _ in calls]
    assert done == sorted(set(done))
    assert done[-1] == SAMPLES


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jitted"])
def test_captured_arrays_are_arguments_and_not_part_of_the_program(wrap):
    data = jnp.ones((1000, 16))
    traced = trace(wrap(lambda v: (data @ v).sum()), jnp.ones(16))
    assert [x.shape for x in traced.captured] == [(1000, 16)]


def test_memory_grows_with_the_batch_and_not_with_samples():
    models = (jnp.zeros((100, 100)), jnp.ones((100, 100)))
    task = task_of(lambda v: (v @ v).sum(), models)
    small, large = (Program(task, batch, True) for batch in (2, 8))
    assert small.steps > 100
    assert small.temporary_bytes < 20 * 4 * 100 * 100
    assert small.temporary_bytes < large.temporary_bytes


def test_many_networks_are_combined_as_combine_many_does():
    models = [network(seed) for seed in range(3)]
    found = evaluate_many(
        metric, models, simplex(3), key=KEY, samples=5, batch=2, devices=one_device()
    )

    @jax.jit
    def one(i):
        return metric(combine_many(models, simplex(3).sample(KEY, i, models[0])))

    for i in range(5):
        np.testing.assert_allclose(found["mean"][i], one(i)["mean"], rtol=1e-4)


class Plane:
    """A user's own coefficients: a grid over the plane of three networks."""

    def __repr__(self):
        return "Plane()"

    def sample(self, key, index, variables):
        s, t = index // 3 / 2, index % 3 / 2
        return jnp.stack([1 - s - t, s, t])


def test_users_may_bring_their_own_coefficients(tmp_path):
    models = [jnp.full(4, value) for value in (0.0, 1.0, 10.0)]
    for _ in range(2):
        found = evaluate_many(
            jnp.mean, models, Plane(), key=KEY, samples=9, checkpoint=tmp_path / "file"
        )
        expected = [s + 10 * t for s in (0, 0.5, 1) for t in (0, 0.5, 1)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_integers_and_keys_stay_as_in_a():
    a = {"w": jnp.zeros(3), "n": jnp.arange(2), "key": jax.random.key(1)}
    b = {"w": jnp.ones(3), "n": jnp.arange(2) + 5, "key": jax.random.key(2)}
    found = evaluate(
        lambda v: (v["n"], jax.random.key_data(v["key"])), a, b, bernoulli(),
        key=KEY, samples=2, batch=1,
    )  # fmt: skip
    np.testing.assert_array_equal(found[0], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(found[1][1], jax.random.key_data(a["key"]))


class Stop(Exception):
    pass


def stop(done, samples):
    if done >= 10:
        raise Stop


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, uninterrupted):
    file = tmp_path / "samples.npz"
    root = pathlib.Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, killed_run.__file__, str(file)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    seen = []
    found = run(checkpoint=file, progress=lambda done, samples: seen.append(done))
    assert 1 < seen[0] < SAMPLES
    assert list(tmp_path.iterdir()) == [file]
    assert_equal(found, uninterrupted)


def test_an_interrupted_run_keeps_its_batch_and_a_finished_one_its_values(tmp_path):
    file = tmp_path / "folder" / "samples"
    expected = run(batch=3)
    with pytest.raises(Stop):
        run(batch=3, checkpoint=file, progress=stop)
    assert_equal(run(batch=None, checkpoint=file), expected)
    written = file.stat().st_mtime_ns
    assert_equal(run(batch=None, checkpoint=file), expected)
    assert file.stat().st_mtime_ns == written
    assert list(file.parent.iterdir()) == [file]


def test_half_precision_survives_a_checkpoint(tmp_path):
    a, b = jnp.zeros(4, jnp.bfloat16), jnp.ones(4, jnp.bfloat16)
    runs = [
        evaluate(
            jnp.sum, a, b, uniform(), key=KEY, samples=6, batch=1,
            checkpoint=tmp_path / "file",
        )
        for _ in range(2)
    ]  # fmt: skip
    assert runs[0].dtype == jnp.bfloat16
    assert_equal(*runs)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The bytes of a finished run of ten samples."""
    file = tmp_path_factory.mktemp("samples") / "file"
    run(samples=10, checkpoint=file)
    return file.read_bytes()


def other_metric(variables):
    return metric({**variables, "layer_0": variables["layer_0"] * 2})


OTHERS = {
    "key": {"key": jax.random.key(4)},
    "samples": {"samples": 11},
    "distribution": {"distribution": uniform(-0.2, 1.1)},
    "networks": {"b": network(3)},
    "metric": {"metric": other_metric},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, checkpoint, name):
    file = tmp_path / "file"
    file.write_bytes(checkpoint)
    options = {
        "metric": metric, "a": network(1), "b": network(2),
        "distribution": uniform(-0.2, 1.2), "key": KEY, "samples": 10,
    } | OTHERS[name]  # fmt: skip
    message = f"belongs to another run: {name} was .*, now .*; delete it"
    with pytest.raises(ValueError, match=message):
        evaluate(**options, checkpoint=file)
    assert file.read_bytes() == checkpoint


def test_a_checkpoint_of_another_closed_over_array_is_refused(tmp_path):
    for data in (jnp.ones(3), jnp.zeros(3)):
        call = lambda: evaluate(  # noqa: E731
            lambda v: (v * data).sum(), jnp.ones(3), jnp.zeros(3), uniform(),  # noqa: B023
            key=KEY, samples=2, batch=1, checkpoint=tmp_path / "file",
        )  # fmt: skip
        if data[0] == 1:
            call()
    with pytest.raises(ValueError, match="metric was"):
        call()


@pytest.mark.parametrize("damage", ["short", "noise", "empty", "array"])
def test_a_damaged_checkpoint_is_refused(tmp_path, checkpoint, damage):
    file = tmp_path / "file"
    noise = np.random.default_rng(0).bytes(500)
    contents = {"short": checkpoint[:-90], "noise": noise, "empty": b"", "array": b""}
    file.write_bytes(contents[damage])
    if damage == "array":
        with open(file, "wb") as stream:
            np.savez(stream, leaf_0=np.ones(3))
    with pytest.raises(ValueError, match=r"is damaged or holds no samples .*delete it"):
        run(samples=10, checkpoint=file)


def bad_parameters():
    tree = network(2)
    tree["layer_1"][3, 3] = np.nan
    return tree


BAD = {
    "no samples": ({"samples": 0}, ValueError, "samples: expected at least 1, got 0"),
    "half a sample": ({"samples": 2.5}, TypeError, "samples: expected an integer"),
    "no batch": ({"batch": 0}, ValueError, "batch: expected at least 1, got 0"),
    "no key": ({"key": 3}, TypeError, "key: expected a PRNG key"),
    "another tree": (
        {"b": {"layer_0": np.ones((5, 16))}},
        ValueError,
        "b does not match a: it has no leaf 'layer_1'",
    ),
    "NaN": (
        {"b": bad_parameters()},
        ValueError,
        "b: expected finite parameters, got NaN or infinity at 'layer_1'",
    ),
    "no device": ({"devices": []}, ValueError, "devices: expected different devices"),
    "a device twice": (
        {"devices": jax.devices()[:1] * 2}, ValueError, "devices: expected different"
    ),
    "text": (
        {"metric": lambda v: {"name": "x"}},
        TypeError,
        "metric: expected arrays of numbers, got str at 'name'",
    ),
    "nothing": (
        {"metric": lambda v: None}, TypeError, "metric: expected arrays .* got None"
    ),
    "a key": (
        {"metric": lambda v: jax.random.key(0)}, TypeError, "metric: expected arrays"
    ),
    "a line of other length": (
        {"distribution": line(4)}, ValueError, "samples: expected 4, as many as"
    ),
    "a simplex": (
        {"distribution": simplex(2)}, ValueError, "give them to evaluate_many"
    ),
    "no distribution": (
        {"distribution": 0.5}, TypeError, "distribution: expected an object"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_has_no_meaning_is_refused(case):
    change, error, message = BAD[case]
    options = {
        "metric": metric, "a": network(1), "b": network(2),
        "distribution": uniform(), "key": KEY, "samples": 2, "batch": 1,
    } | change  # fmt: skip
    with pytest.raises(error, match=message):
        evaluate(**options)


MANY = {
    "none": ([], "models: expected at least one"),
    "another tree": ([network(1), {}, network(2)], r"models\[1\] does not match"),
    "another number": ([network(1)] * 2, "is for 3 networks, got 2 models"),
}


@pytest.mark.parametrize("case", MANY)
def test_models_that_do_not_fit_are_refused(case):
    models, message = MANY[case]
    with pytest.raises(ValueError, match=message):
        evaluate_many(metric, models, simplex(3), key=KEY, samples=2)


def test_a_pair_distribution_is_not_for_many():
    with pytest.raises(ValueError, match="is for a pair, by evaluate, got 2 models"):
        evaluate_many(metric, [network(1)] * 2, uniform(), key=KEY, samples=2)
