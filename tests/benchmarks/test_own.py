"""Your own data, models and weights in the experiments on trained networks."""

import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks import runs

OWN = '''
import flax.linen as nn
import jax
import numpy as np
from flax import nnx


class Own(nn.Module):
    """A Linen module without an argument that tells it to train."""

    classes: int
    features: int

    @nn.compact
    def __call__(self, inputs):
        x = inputs.reshape(len(inputs), -1)
        x = nn.relu(nn.Dense(self.features, name="hidden")(x))
        return nn.Dense(self.classes, name="logits")(x)


class OwnNnx(nnx.Module):
    """An NNX module with BatchNorm."""

    def __init__(self, classes, features, *, rngs):
        self.hidden = nnx.Linear(64, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.logits = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, inputs):
        x = inputs.reshape(len(inputs), -1)
        return self.logits(nnx.relu(self.norm(self.hidden(x))))


def read(path):
    """Weights in a format of one's own, here text."""
    seed = int(open(path).read())
    rows = np.random.default_rng(seed)
    return {
        "params": {
            "hidden": {"kernel": rows.normal(size=(64, 5)), "bias": np.zeros(5)},
            "logits": {"kernel": rows.normal(size=(5, 3)), "bias": np.zeros(3)},
        }
    }
'''
SMALL = {
    "combinability": "--networks 3 --steps 20 --rows 20 --calibration 10 --samples 3 "
    "--points 3 --fractions 0 0.5 --resolution 5",
    "stitching": "--networks 2 --training-steps 20 --pairs 1 --deep 0 --cross 1 "
    "--audited 0 --fit-rows 32 --test-rows 10 --cross-rows 16 --steps 2 "
    "--batch-size 8 --ranks 0.5 --training-batch-size 8",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a dataset and a module, in which commands are given."""
    rows = np.random.default_rng(0)
    arrays = {"x": rows.random((90, 8, 8)).astype("f"), "y": np.arange(90) % 3}
    np.savez(tmp_path / "own.npz", **arrays)
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.setattr("benchmarks.report.write", lambda folder: None)
    monkeypatch.setattr("benchmarks.combinability._studies.CELLS", _three_cells())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _three_cells():
    from benchmarks.combinability._studies import CELLS

    kept = ("uniform [0, 1]", "vertices", "uniform [−0.25, 1.25]")
    return [cell for cell in CELLS if cell.name in [f"{x}, element" for x in kept]]


def run(command, *more, model="Own"):
    asked = [command, "--dataset", "own.npz", "--model", f"own_networks:{model}"]
    asked += ["--model-options", '{"features": 5}', "--out", "run"]
    asked += SMALL[command].split()
    assert command_line.main([*asked, *more]) == 0
    return runs.read("run")


SLOW = pytest.mark.slow


@pytest.mark.parametrize("model", [pytest.param("Own", marks=SLOW), "OwnNnx"])
def test_your_own_networks_are_matched_and_combined_in_one_command(here, model):
    found = run("combinability", "--batch-size", "8", model=model).widths["1"]
    assert "5" in found.symmetry
    assert len(found.parents) == 3
    assert np.isfinite(found.matching.objective).all()
    repaired = found.controls.barriers["matched, repaired"]
    assert np.isfinite(repaired["test_loss"].mean)


@pytest.mark.parametrize("model", ["Own", pytest.param("OwnNnx", marks=SLOW)])
def test_your_own_networks_are_stitched_in_one_command(here, model):
    found = run("stitching", model=model)
    names = [layer.name for layer in found.layers]
    assert names[0] == "hidden"
    maps = found.stitches["hidden"]
    assert np.isfinite(maps["task loss: affine"].cross_entropy.mean)


def test_your_own_files_of_weights_are_read_by_your_own_function(here):
    for seed in range(2):
        (here / f"{seed}.txt").write_text(str(seed))
    weights = ["--weights", "0.txt", "1.txt"]
    found = run("stitching", *weights, "--weights-mapping", "own_networks:read")
    assert len(found.networks.test_accuracy) == 2
