"""Runs that are killed at any moment, again and again, end with the same numbers."""

import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Float64

from benchmarks import runs, training
from benchmarks.models import Network
from benchmarks.rllc import Config
from benchmarks.runs import Result, Run, read_result
from benchmarks.training import fit
from benchmarks.weights import load_all, save_networks

ROOT = Path(__file__).parents[2]
BENCHMARKS = [sys.executable, "-m", "benchmarks"]
RLLC = """rllc --methods sgd rllc --schedules constant --trials 2 --seeds 2 --steps 200
    --batch-size 32 --evaluations 20 --curve-rows 100 --problems"""
COMBINABILITY = """combinability --widths 8 --networks 3 --steps 200 --rows 60
    --calibration 40 --samples 60 --points 3 --fractions 0.0 0.2
    --resolution 5"""
STITCHING = """stitching --model mlp --width 8 --networks 3 --training-steps 200
    --layers Dense_0 Dense_2 --pairs 3 --deep 1 --cross 1 --audited 1 --fit-rows 200
    --test-rows 100 --cross-rows 100 --steps 50 --batch-size 32 --ranks 0.25
    --penalties 0.1 --task-penalties 1.0"""
COMMANDS = {
    "rllc": [*BENCHMARKS, *RLLC.split()],
    "combinability": [*BENCHMARKS, *COMBINABILITY.split()],
    "stitching": [*BENCHMARKS, *STITCHING.split()],
    "tour": [sys.executable, str(Path(__file__).with_name("small_tour.py"))],
}
KILLS = 8
# From the first line that a command says, at which it has only been imported.
MOST_SECONDS = 15.0


def start(command, folder, cache):
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [*command, "--out", str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, after=None):
    """Whether a command ends by itself before it is killed, `after` so many seconds."""
    said = process.stderr.readline()
    killer = threading.Timer(after or 0, process.kill)
    if after is not None:
        killer.start()
    said += process.stderr.read()
    killer.cancel()
    if process.wait() == -signal.SIGKILL:
        return False
    assert process.returncode == 0, said
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_any_moment_ends_with_the_same_numbers(name, tmp_path):
    # The killed one comes first and compiles what the other one reads: so the files
    # that compilations are kept in are written while it is killed, too.
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # Soon at first, so that even a short run is killed.
    moments = np.sort(np.random.default_rng(0).uniform(0, MOST_SECONDS, KILLS))
    kills = next(
        kills
        for kills, after in enumerate((*moments, None))
        if ended(start(COMMANDS[name], killed, tmp_path / "cache"), after)
    )
    assert kills > 0
    assert ended(start(COMMANDS[name], whole, tmp_path / "cache"))
    assert without_times(read_result(killed)) == without_times(read_result(whole))
    assert names_in(killed) == names_in(whole)


def without_times(value):
    """A result without what is of one run only."""
    if isinstance(value, list):
        return [without_times(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    own = {"command", "started", "seconds", "seconds_per_step"}
    return {name: without_times(v) for name, v in value.items() if name not in own}


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# A run in miniature, which keeps its work as the experiments do, killed before every
# change that it makes to files.

CHANGES = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink")


class Killed(BaseException):
    """Nothing happens any more."""


class Rehearsal(Result):
    found: Float64[np.ndarray, "run"]


def dying(changes, patch):
    """From now on so many changes of files happen, and no more.

    What was to be flushed to a file when the end came is there by half.
    """
    left = [changes]

    def until_killed(change, place, *arguments, **options):
        left[0] -= 1
        if left[0] == -1 and change is fsync:
            os.ftruncate(place, os.fstat(place).st_size // 2)
        if left[0] < 0:
            raise Killed
        return change(place, *arguments, **options)

    fsync = os.fsync
    for name in CHANGES:
        change = functools.partial(until_killed, getattr(os, name))
        patch.setattr(os, name, change)


class Kept(Network):
    def init(self, key, example):
        return {"params": jnp.zeros(2)}


def loss(params, statistics, batch, key, step):
    return jnp.mean((params - batch) ** 2), statistics


def sgd(hyper):
    return optax.sgd(hyper["learning_rate"])


def run_in(folder):
    here = Run("rehearsal", Config(), folder)
    kept = folder / "networks" / "trained.npz"

    def train():
        found = fit(
            loss,
            {"params": jnp.zeros(2)},
            sgd,
            jnp.arange(6.0)[:, None],
            key=jax.random.split(jax.random.key(0), 2),
            steps=6,  # two epochs, each of which ends with a checkpoint
            batch_size=2,
            hyper={"learning_rate": jnp.array([0.1, 0.2])},
            checkpoint=here.checkpoint(),
        )
        save_networks(kept, [found.variables])

    here.stage("train", train)
    (trained,) = load_all(kept, Kept(None), None)
    total = here.stage("double", lambda: 2 * trained["params"])
    here.finish(Rehearsal, found=total)


def test_a_run_killed_before_any_change_of_a_file_ends_the_same(tmp_path, monkeypatch):
    module = types.SimpleNamespace(Rehearsal=Rehearsal)
    monkeypatch.setitem(sys.modules, "rehearsal_of_kills", module)
    monkeypatch.setitem(runs.RESULTS, "rehearsal", "rehearsal_of_kills:Rehearsal")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    run_in(tmp_path / "whole")
    expected = without_times(read_result(tmp_path / "whole"))
    for changes in itertools.count():
        folder, died = tmp_path / str(changes), False
        with pytest.MonkeyPatch.context() as patch:
            dying(changes, patch)
            try:
                run_in(folder)
            except Killed:
                died = True
        run_in(folder)
        assert without_times(read_result(folder)) == expected
        assert names_in(folder) == names_in(tmp_path / "whole")
        if not died:
            break
    assert changes > 20
