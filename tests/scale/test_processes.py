"""Two processes of two devices each do what one device does."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import stitching
from tests.scale import worker

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 400


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process of the cluster found: arrays by their paths."""
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as held:
        # Bound but not listening, the port is given to nobody who does not share it as
        # the coordinator does.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("localhost", 0))
        run_cluster(f"localhost:{held.getsockname()[1]}", folder)
    return [
        dict(np.load(folder / f"found.{number}.npz"))
        for number in range(worker.PROCESSES)
    ]


def run_cluster(address, folder):
    """Runs all processes to their end; none outlives a failure."""
    # Compiled as here, on devices of its own.
    flags = [x for x in os.environ["XLA_FLAGS"].split() if "device_count" not in x]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": " ".join(flags)}
    for name in (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    ):
        environment[name.upper()] = str(getattr(jax.config, name))
    logs = [folder / f"log.{number}" for number in range(worker.PROCESSES)]
    processes = []
    try:
        for number, log in enumerate(logs):
            command = [sys.executable, worker.__file__, address, str(number), folder]
            with open(log, "w") as output:
                processes.append(
                    subprocess.Popen(
                        command, stdout=output, stderr=output, env=environment
                    )
                )
        wait(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    assert not any(codes), "\n".join(log.read_text() for log in logs)


def wait(processes):
    """Until all have ended, one has failed, or the time is up."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            return
        time.sleep(0.1)


def named(name, tree):
    """A tree as `found` has it."""
    leaves = jax.tree_util.tree_flatten_with_path({name: tree})[0]
    return {jax.tree_util.keystr(place): np.asarray(leaf) for place, leaf in leaves}


def check(found, expected, **tolerance):
    for place, leaf in expected.items():
        for arrays in found:
            assert arrays[place].dtype == leaf.dtype
            if tolerance:
                np.testing.assert_allclose(arrays[place], leaf, **tolerance)
            else:
                np.testing.assert_array_equal(arrays[place], leaf)


def test_training_takes_the_path_of_one_device(found):
    expected = worker.train()
    start = worker.network(0)
    assert all(np.abs(expected["params"][k] - start[k]).max() > 0.1 for k in start)
    check(found, named("training", expected), rtol=1e-4, atol=1e-6)


def test_samples_are_those_of_one_device_bit_by_bit(found):
    expected = worker.evaluate(devices=jax.local_devices()[:1])
    assert len(expected["outputs"]) == worker.SAMPLES
    check(found, named("samples", expected))
    one = jax.tree.map(lambda leaf: leaf[:1], expected)
    check(found, named("fewer samples than processes", one), rtol=1e-5)


def test_a_cluster_that_lost_a_checkpoint_goes_on_to_the_same_bits(found):
    for arrays in found:
        for name in ("outputs", "positive", "count"):
            resumed = arrays[f"['samples, resumed']['{name}']"]
            np.testing.assert_array_equal(resumed, arrays[f"['samples']['{name}']"])


def test_moments_are_those_of_all_rows(found, x64):
    expected = jax.jit(stitching.moments)(*worker.activations())
    for name in ("spread moments", "merged moments"):
        check(found, named(name, expected), rtol=1e-12, atol=1e-12)


def test_a_sweep_of_stitches_is_that_of_one_device(found):
    expected = worker.sweep(worker.RATES)
    distances = np.abs(expected.weight - expected.weight[0]).max(axis=(1, 2))
    assert np.all(np.diff(distances) > 0.01)
    check(found, named("sweep", expected), rtol=1e-4, atol=1e-6)


def test_networks_that_span_processes_are_rejected_with_advice(found):
    for arrays in found:
        message = str(arrays["['rejection']"])
        assert "a: expected arrays of this process, got one that spans" in message
        assert "process_allgather" in message
