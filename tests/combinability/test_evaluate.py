"""`evaluate` gives what a loop gives, however the work is divided or interrupted."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import combine, combine_many, evaluate, evaluate_many, uniform
from combinability.coefficients import bernoulli, beta, line, normal, simplex
from tests.combinability import killed_run
from tests.combinability.killed_run import SAMPLES, metric, network, run

pytestmark = pytest.mark.optimized
KEY = jax.random.key(3)


def one_device():
    return jax.local_devices()[:1]


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
        step = jax.jit(
            lambda i: metric(combine(a, b, distribution.sample(i, a, key=KEY)))
        )
        values = [step(i) for i in range(SAMPLES)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *values)


@pytest.mark.parametrize(
    ("batch", "devices"), [(1, 1), (3, 1), (8, 1), (200, 1), (1, 8), (3, 3), (7, 8)]
)
def test_every_batch_and_number_of_devices_gives_what_a_loop_gives(
    in_float64, x64, batch, devices
):
    found = run(batch_size=batch, devices=jax.local_devices()[:devices])
    assert_equal(found, in_float64, rtol=1e-12, atol=1e-13)


def test_float32_values_agree_to_rounding(uninterrupted):
    found = run(batch_size=8, devices=jax.local_devices()[:4])
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
    alone = evaluate(lambda v: v, a, b, normal(), batch_size=1, **options)
    together = evaluate(lambda v: v, a, b, normal(), batch_size=4, **options)
    assert_equal(together, alone)
    one = jax.jit(lambda i: combine(a, b, normal().sample(i, a, key=KEY)))
    for i, leaf in enumerate(alone["layer_0"]):
        np.testing.assert_allclose(leaf, one(i)["layer_0"], rtol=1e-6, atol=1e-6)


def test_the_first_samples_of_a_longer_run_are_a_shorter_run(uninterrupted):
    shorter = run(samples=13)
    assert_equal(shorter, jax.tree.map(lambda x: x[:13], uninterrupted))


# Compilation


@pytest.fixture
def counted():
    """A metric, fails where it is traced twice."""
    chex.clear_trace_counter()
    return chex.assert_max_traces(metric, n=1)


def test_equal_calls_are_traced_and_compiled_once(counted):
    found = [
        evaluate(
            counted, network(seed), network(2), uniform(0, high), key=jax.random.key(n),
            samples=4,
        )
        for n, (seed, high) in enumerate([(1, 1), (3, 1.0), (1, True)])
    ]  # fmt: skip
    assert not np.array_equal(found[0]["mean"], found[1]["mean"])


def test_all_segments_are_one_program(counted):
    calls = []
    evaluate(
        counted, network(1), network(2), uniform(), key=KEY, samples=SAMPLES,
        batch_size=3, progress=lambda *done: calls.append(done),
    )  # fmt: skip
    assert 2 < len(calls) <= 64
    assert [total for _, total in calls] == [SAMPLES] * len(calls)
    done = [count for count, _ in calls]
    assert done == sorted(set(done))
    assert done[-1] == SAMPLES


def test_other_arguments_of_the_metric_do_not_compile_again():
    chex.clear_trace_counter()
    distance = chex.assert_max_traces(lambda v, x: ((v - x["x"]) ** 2).sum(), n=1)
    a, b = jnp.zeros(3), jnp.ones(3)
    for value in (0.0, 1.0):
        found = evaluate(
            distance, a, b, line(3), key=KEY, samples=3, args=[{"x": np.full(3, value)}]
        )
        expected = 3 * (np.array([0, 0.5, 1]) - value) ** 2
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_laws_of_equal_parameters_are_not_the_same_distribution():
    a, b = jnp.zeros(1000), jnp.ones(1000)
    options = {"key": KEY, "samples": 2}
    same, bent = (
        evaluate(jnp.std, a, b, law(0.5, 0.5), **options) for law in (uniform, beta)
    )
    assert same.max() == 0
    assert bent.min() > 0.3


def test_convolutions_on_a_cpu_are_not_vmapped():
    module, x = nn.Conv(3, (2, 2)), jnp.ones((1, 4, 4, 2))
    a, b = (module.init(jax.random.key(seed), x) for seed in (1, 2))
    vmapped = []

    @jax.custom_batching.custom_vmap
    def watched(y):
        return y

    @watched.def_vmap
    def rule(size, batched, y):
        vmapped.append(size)
        return y, batched[0]

    def total(variables):
        return jnp.sum(watched(jnp.asarray(module.apply(variables, x))))

    expected = np.linspace(total(a), total(b), 9)
    for batch_size, sizes in ((None, []), (3, [3])):
        found = evaluate(
            total, a, b, line(9), key=KEY, samples=9, batch_size=batch_size,
            devices=one_device(),
        )  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert vmapped == sizes


def convolution(x, kernel, layout):
    numbers = (layout, "OIHW" if layout == "NCHW" else "HWIO", layout)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers
    )


def squares(x, layout):
    return lambda kernel: jnp.square(convolution(x, kernel, layout)).sum()


IMAGES, KERNEL = np.ones((2, 4, 4, 3), np.float32), np.ones((2, 2, 3, 5), np.float32)
LAST = squares(IMAGES, "NHWC")
# A convolution inside of another primitive is found too.
LOOPED = {
    "channels first": (squares(IMAGES.transpose(0, 3, 1, 2), "NCHW"), (5, 3, 2, 2)),
    "gradient": (lambda v: jnp.square(jax.grad(LAST)(v)).sum(), KERNEL.shape),
    "gradient of inputs": (
        lambda v: jax.grad(lambda x: squares(x, "NHWC")(v))(jnp.asarray(IMAGES)).sum(),
        KERNEL.shape,
    ),
    "jitted": (jax.jit(jax.checkpoint(jax.grad(LAST))), KERNEL.shape),
    "in a branch": (
        lambda v: jax.lax.cond(v.sum() > 0, jax.grad(LAST), jnp.zeros_like, v),
        KERNEL.shape,
    ),
}


@pytest.mark.parametrize("name", LOOPED)
def test_slow_convolutions_on_a_cpu_are_not_inside_a_compiled_loop(name, monkeypatch):
    metric, shape = LOOPED[name]
    a, b = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    with monkeypatch.context() as patch:
        patch.delattr(jax.lax, "map")
        found = evaluate(metric, a, b, line(3), key=KEY, samples=3)
    expected = [metric(combine(a, b, t)) for t in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # A batch size that is asked for is used.
    together = evaluate(metric, a, b, line(3), key=KEY, samples=3, batch_size=2)
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", [LAST, jax.jit(LAST), jnp.sum])
def test_other_programs_are_one_compiled_loop(metric, monkeypatch):
    a, b = np.random.default_rng(0).normal(size=(2, *KERNEL.shape)).astype(np.float32)
    loops = []
    mapped = jax.lax.map
    monkeypatch.setattr(
        jax.lax, "map", lambda f, xs, **more: loops.append(1) or mapped(f, xs, **more)
    )
    shifted = line(3, high=0.5 + len(str(metric)) / 1000)  # not compiled before
    evaluate(metric, a, b, shifted, key=KEY, samples=3)
    assert loops == [1]


def test_many_networks_are_combined_as_combine_many_does():
    models = [network(seed) for seed in range(3)]
    found = evaluate_many(metric, models, simplex(3), key=KEY, samples=5, batch_size=2)

    @jax.jit
    def one(i):
        return metric(combine_many(models, simplex(3).sample(i, models[0], key=KEY)))

    for i in range(5):
        np.testing.assert_allclose(found["mean"][i], one(i)["mean"], rtol=1e-4)


@dataclasses.dataclass(frozen=True)
class Plane:
    """A user's own coefficients: a grid over the plane of three networks."""

    def sample(self, index, variables, *, key):
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
        key=KEY, samples=2, batch_size=1,
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
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",  # as of this test
        },
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


def test_an_interrupted_run_continues_and_a_finished_one_is_only_read(tmp_path):
    file = tmp_path / "folder" / "samples"
    expected = run(batch_size=3)
    with pytest.raises(Stop):
        run(batch_size=3, checkpoint=file, progress=stop)
    assert_equal(run(batch_size=3, checkpoint=file), expected)
    written = file.stat().st_mtime_ns
    assert_equal(run(checkpoint=file), expected)
    assert file.stat().st_mtime_ns == written
    assert list(file.parent.iterdir()) == [file]


def test_half_precision_survives_a_checkpoint(tmp_path):
    a, b = jnp.zeros(4, jnp.bfloat16), jnp.ones(4, jnp.bfloat16)
    runs = [
        evaluate(
            jnp.sum, a, b, uniform(), key=KEY, samples=6, batch_size=1,
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
def test_a_checkpoint_of_another_run_raises(tmp_path, checkpoint, name):
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


def test_a_checkpoint_of_another_closed_over_array_raises(tmp_path):
    for data in (jnp.ones(3), jnp.zeros(3)):
        call = lambda: evaluate(  # noqa: E731
            lambda v: (v * data).sum(), jnp.ones(3), jnp.zeros(3), uniform(),  # noqa: B023
            key=KEY, samples=2, batch_size=1, checkpoint=tmp_path / "file",
        )  # fmt: skip
        if data[0] == 1:
            call()
    with pytest.raises(ValueError, match="metric was"):
        call()


@pytest.mark.parametrize("damage", ["short", "noise", "empty", "array"])
def test_a_damaged_checkpoint_raises(tmp_path, checkpoint, damage):
    file = tmp_path / "file"
    noise = np.random.default_rng(0).bytes(500)
    contents = {"short": checkpoint[:-90], "noise": noise, "empty": b"", "array": b""}
    file.write_bytes(contents[damage])
    if damage == "array":
        with open(file, "wb") as stream:
            np.savez(stream, leaf_0=np.ones(3))
    with pytest.raises(ValueError, match=r"is damaged or holds no samples .*delete it"):
        run(samples=10, checkpoint=file)
