"""Run folders: whole files, resumed runs, and rejections that say what to do."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jaxtyping import Float64

from benchmarks import data, runs
from benchmarks.baselines import own_method
from benchmarks.configs.rllc import Config as RllcConfig
from benchmarks.networks import open_run
from benchmarks.runs import Number, Record, Result, Run, RunError, default_folder, read

RESULTS = Path(runs.__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    rates: tuple[float, ...] = (0.1, 1.0)


class Losses(Record):
    loss: Float64[np.ndarray, " seed"]
    best: Number


class Rehearsal(Result):
    methods: dict[str, Losses]


CONFIG = Config()


@pytest.fixture(autouse=True)
def rehearsal(monkeypatch):
    """Results of this file's experiment are read by its type."""
    module = types.SimpleNamespace(Rehearsal=Rehearsal)
    monkeypatch.setitem(sys.modules, "rehearsal_of_runs", module)
    monkeypatch.setitem(runs.RESULTS, "rehearsal", "rehearsal_of_runs:Rehearsal")


def test_a_finished_stage_is_not_computed_again(tmp_path):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    assert Run("rllc", CONFIG, tmp_path).stage("one", lambda: 2) == 1


class Value(Record):
    array: Float64[np.ndarray, "row column"]
    scalar: Number
    names: list[str]


def test_a_computed_and_a_stored_stage_are_the_same_value(tmp_path):
    value = {
        "array": jnp.array([[0.1, jnp.nan], [jnp.inf, 3]], jnp.float32),
        "scalar": np.float32(np.inf),
        "names": ("one", "two"),
    }
    computed = Run("rllc", CONFIG, tmp_path).stage("one", lambda: value, Value)
    stored = Run("rllc", CONFIG, tmp_path).stage("one", lambda: None, Value)
    expected = np.array([[np.float32(0.1), np.nan], [np.nan, 3]])
    for one in (computed, stored):
        np.testing.assert_array_equal(one.array, expected)
        assert np.isnan(one.scalar)
        assert one.names == ["one", "two"]
    plain = Run("rllc", CONFIG, tmp_path).stage("one", lambda: None)
    assert plain["scalar"] is None
    assert plain["names"] == ["one", "two"]


@pytest.mark.parametrize("value", [{"a": object()}, object()])
def test_a_value_that_json_cannot_hold_is_rejected(tmp_path, value):
    run = Run("rllc", CONFIG, tmp_path)
    with pytest.raises(TypeError, match="stage value: expected"):
        run.stage("one", lambda: value)
    assert run.stage("one", lambda: 1) == 1


def test_a_failure_before_anything_is_finished_leaves_no_folder(tmp_path):
    def fail():
        raise ValueError("too few rows")

    for folder in (tmp_path / "run", tmp_path / "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="too few"):
            Run("rllc", CONFIG, folder).stage("one", fail)
        assert not list(folder.glob("*"))
    kept = Run("rllc", CONFIG, tmp_path / "kept")
    kept.stage("one", lambda: 1)
    with pytest.raises(ValueError, match="too few"):
        kept.stage("two", fail)
    assert Run("rllc", CONFIG, tmp_path / "kept").stage("one", fail) == 1


def test_a_stage_that_raises_leaves_nothing_behind(tmp_path):
    run = Run("rllc", CONFIG, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.stage("one", lambda: signal.raise_signal(signal.SIGINT))
    assert run.stage("one", lambda: 7) == 7


def test_a_damaged_stage_is_rejected_by_name(tmp_path):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    stored = tmp_path / "stages" / "one.json"
    for content in (stored.read_bytes()[:5], b"[1]", b"\xff\xfe"):
        stored.write_bytes(content)
        with pytest.raises(RunError, match=r"one\.json is damaged.*delete it"):
            Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)


def test_another_configuration_is_rejected_and_the_difference_named(tmp_path):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    with pytest.raises(RunError, match=r"steps was 10, now 20.*--out"):
        Run("rllc", Config(20), tmp_path)
    with pytest.raises(RunError, match="it is a run of rllc, not of tour"):
        Run("tour", CONFIG, tmp_path)


def test_other_versions_are_not_mixed_into_a_run(tmp_path, monkeypatch):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    versions = runs.versions
    other = {"jax": "99.0"}
    monkeypatch.setattr(runs, "versions", lambda *named: versions(*named) | other)
    with pytest.raises(RunError, match=r"version of jax was '.*', now '99.0'"):
        Run("rllc", CONFIG, tmp_path)


@pytest.mark.parametrize("change", [{"devices": 99}, {"device": "TPU v99"}])
def test_other_devices_are_not_mixed_into_a_run(change, tmp_path, monkeypatch):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    usual, there = default_folder("rllc", CONFIG), runs.machine()
    other = msgspec.structs.replace(there, **change)
    monkeypatch.setattr(runs, "machine", lambda: other)
    with pytest.raises(RunError, match=r"devices? was .*, now '?(TPU v)?99"):
        Run("rllc", CONFIG, tmp_path)
    assert default_folder("rllc", CONFIG) != usual
    unrelated = msgspec.structs.replace(there, cores=99, cpu="another")
    monkeypatch.setattr(runs, "machine", lambda: unrelated)
    assert Run("rllc", CONFIG, tmp_path).stage("one", lambda: 2) == 1


def test_files_and_code_that_options_name_count_as_versions(tmp_path):
    @dataclasses.dataclass
    class Own:
        dataset: str
        methods: tuple[str, ...]

    path = tmp_path / "data.npz"
    path.write_bytes(b"one")
    own = Own(str(path), ("benchmarks.baselines:scale_by_aggmo",))
    before = runs.header("rllc", own).versions
    assert set(runs.header("rllc", CONFIG).versions) < set(before)
    path.write_bytes(b"two")
    after = runs.header("rllc", own).versions
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {str(path)}
    assert own.methods[0] in before


def test_code_that_named_code_imports_counts_as_versions(tmp_path, monkeypatch):
    files = {
        "own_main.py": "import own_package.part, optax\nfrom own_constant import RATE",
        "own_package/__init__.py": "",
        "own_package/part.py": "from . import sibling",
        "own_package/sibling.py": "",
        "own_constant.py": "RATE = 1",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())

    def versions():
        asked = dataclasses.make_dataclass("Own", [("model", str)])("own_main:optax")
        return runs.header("rllc", asked).versions

    before = versions()
    kept = before.keys() - {"optax", "own_main:optax"}
    assert not [name for name in kept if "optax" in name or "benchmarks" in name]
    for name in files:
        (tmp_path / name).write_text(files[name] + "\n# changed\n")
        after = versions()
        assert sum(before[key] != value for key, value in after.items()) == 1, name
        before = after


DIGITS = data.load("digits")


def scaled(factor):
    return nn.Sequential([lambda x: factor * x.reshape(len(x), -1), nn.Dense(10)])


def activated(activation):
    return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(10), activation])


class Given(nnx.Module):
    def __init__(self, factor, rngs):
        self.factor, self.dense = factor, nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.factor * x.reshape(len(x), -1))


def nnx_scaled(factor):
    return lambda rngs: Given(factor, rngs)


def decaying(decay, high=1.0):
    def momentum(learning_rate):
        return optax.sgd(learning_rate, decay)

    momentum.space = {"learning_rate": (0.1, high)}
    return own_method(momentum)


def with_inputs(change):
    train = DIGITS.train._replace(inputs=change(DIGITS.train.inputs))
    return dataclasses.replace(DIGITS, train=train)


@pytest.mark.parametrize(
    ("kind", "make", "one", "other"),
    [
        ("dataset", with_inputs, lambda x: x, lambda x: x + 1e-6),
        ("dataset", with_inputs, lambda x: x, lambda x: x[::-1]),
        ("model", scaled, 1.0, 2.0),
        ("model", scaled, np.ones((1, 64)), np.eye(1, 64)),
        ("model", activated, nn.relu, nn.elu),
        ("model", nnx_scaled, 1.0, 2.0),
        ("methods", lambda decay: [decaying(decay)], 0.9, 0.8),
        ("methods", lambda high: [decaying(0.9, high)], 1.0, 2.0),
    ],
)
def test_objects_from_python_are_told_apart_by_what_they_do(kind, make, one, other):
    def header(value):
        given = {"dataset": DIGITS, "model": scaled(1.0), "methods": ()}
        given[kind] = make(value)
        own = given["dataset"], given["model"], None, None, None, given["methods"]
        return open_run("rllc", RllcConfig(), *own)[0].header

    first, again, changed = map(header, (one, one, other))
    assert first.config == again.config == changed.config
    assert first.config["model"] != "mlp"
    assert first.versions == again.versions
    names = [n for n in first.versions if first.versions[n] != changed.versions[n]]
    assert len(names) == 1
    assert names[0].startswith(kind.rstrip("s") + " ")


def test_files_in_the_data_folder_count_as_versions(tmp_path):
    @dataclasses.dataclass
    class Own:
        dataset: str
        weights: tuple[str, ...]

    data, checkpoint = tmp_path / "own.npz", tmp_path / "checkpoint" / "d" / "leaf"
    checkpoint.parent.mkdir(parents=True)
    own = Own("own.npz", ("checkpoint",))
    found = []
    for content in ((b"1", b"1"), (b"2", b"1"), (b"2", b"2")):
        data.write_bytes(content[0])
        checkpoint.write_bytes(content[1])
        versions = runs.header("rllc", own, tmp_path).versions
        found.append((versions["own.npz"], versions["checkpoint"]))
    files, folders = zip(*found, strict=True)
    assert files[0] != files[1] == files[2]
    assert folders[0] == folders[1] != folders[2]
    # Neither a folder of a dataset's name nor a long text is a file of the user's.
    (tmp_path / "digits").mkdir()
    for text in ("digits", "0." * 1000):
        assert text not in runs.header("rllc", Own(text, ()), tmp_path).versions
    folder = runs.default_folder("rllc", own, tmp_path)
    data.write_bytes(b"3")
    assert runs.default_folder("rllc", own, tmp_path) != folder


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"'thesis\.tex'"):
        Run("rllc", CONFIG, tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot (read|write) .*file/run"):
        Run("rllc", CONFIG, tmp_path / "file" / "run").stage("one", lambda: 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"cannot write .*Permission denied"):
        Run("rllc", CONFIG, tmp_path / "run").stage("one", lambda: 1)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO])
def test_room_is_advised_only_where_there_is_none(code, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match="name another folder with --out") as raised:
        Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    assert os.strerror(code) in str(raised.value)
    assert "make room" not in str(raised.value)


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    run = Run("rllc", CONFIG, tmp_path)
    run.stage("zero", lambda: 0)
    fsync = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*No space left.*make room"):
        run.stage("one", lambda: 1)
    assert [p.name for p in (tmp_path / "stages").iterdir()] == ["zero.json"]
    monkeypatch.setattr(os, "fsync", fsync)
    assert run.stage("one", lambda: 2) == 2


def test_the_result_carries_configuration_versions_and_machine(tmp_path):
    run = Run("rehearsal", CONFIG, tmp_path)
    run.stage("one", lambda: time.sleep(0.02))
    losses = {"loss": np.array([1, np.nan]), "best": np.nan}
    result = run.finish(Rehearsal, methods={"sgd": losses})
    again = read(tmp_path)
    for one in (result, again):
        np.testing.assert_array_equal(one.methods["sgd"].loss, [1.0, np.nan])
        assert np.isnan(one.methods["sgd"].best)
        assert one.config == {"steps": 10, "rates": [0.1, 1.0]}
        assert 0.02 <= one.seconds < 2
        assert {"python", "jax", "optax", "numpy", "source"} <= one.versions.keys()
        assert one.machine == run.header.machine
    assert "NaN" not in (tmp_path / "result.json").read_text()
    with pytest.raises(RunError, match=r"unknown field `x`"):
        run.finish(Rehearsal, methods={}, x=1)


def test_the_default_folder_follows_from_the_question():
    first = default_folder("rllc", CONFIG)
    assert first.parent == Path("runs")
    assert default_folder("rllc", CONFIG) == first
    assert default_folder("rllc", Config(3)) != first
    assert default_folder("tour", CONFIG) != first


def test_without_a_folder_nothing_stays():
    run = Run("rllc", CONFIG)
    run.stage("one", lambda: 1)
    folder = run.folder
    assert folder.exists()
    del run
    assert not folder.exists()


def test_an_unfinished_run_says_how_to_continue(tmp_path):
    with pytest.raises(RunError, match=r"holds no result\.json"):
        read(tmp_path)
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    with pytest.raises(RunError, match="has not finished; continue with\n  python"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("versions"), "required field `versions`"),
        (lambda r: r.update(extra=1), "unknown field `extra`"),
        (lambda r: r["timings"][0].update(seconds="x"), r"timings.*seconds"),
        (lambda r: r["machine"].update(cores=1.5), r"Expected `int`.*machine\.cores"),
    ],
)
def test_a_result_of_another_schema_is_rejected_by_name(tmp_path, change, said):
    result = json.loads((RESULTS / "speed_rllc" / "result.json").read_text())
    change(result)
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match=said):
        read(tmp_path)


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in RESULTS.glob("*/result.json"))
)
def test_every_committed_result_has_its_type(name):
    result = read(RESULTS / name)
    assert result.schema == runs.SCHEMA
    assert result.seconds > 0


def work(folder, seconds):
    """Computes a run of six stages, each from the one before; gives those computed."""
    run, computed = Run("rehearsal", Config(6), folder), []
    total = np.zeros(3)
    for index in range(6):

        def compute(index=index, total=total):
            time.sleep(seconds)
            print(index, flush=True)
            computed.append(index)
            noise = np.random.default_rng(index).normal(size=3)
            return total + noise

        total = run.stage(f"stage-{index}", compute, Float64[np.ndarray, " seed"])
    run.finish(Rehearsal, methods={"sgd": {"loss": total, "best": total.min()}})
    return computed


def test_a_killed_run_goes_on_and_ends_with_the_same_result(tmp_path):
    killed = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert killed.stdout is not None
    while killed.stdout.readline() != "2\n":
        pass
    time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    with pytest.raises(RunError, match="has not finished"):
        read(tmp_path / "killed")

    resumed = work(tmp_path / "killed", 0)
    assert resumed[-3:] == [3, 4, 5]
    assert not {0, 1} & set(resumed)
    assert work(tmp_path / "whole", 0) == [0, 1, 2, 3, 4, 5]
    one, other = (read(tmp_path / name) for name in ("whole", "killed"))
    np.testing.assert_array_equal(one.methods["sgd"].loss, other.methods["sgd"].loss)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_write_that_is_killed_in_the_middle_is_not_taken_for_whole(tmp_path):
    run = Run("rllc", CONFIG, tmp_path)
    left = tmp_path / "stages" / ".one.json.1.partial"
    left.parent.mkdir()
    left.write_text('{"seconds": 1, "val')
    assert Run("rllc", CONFIG, tmp_path).stage("one", lambda: 5) == 5
    run.finish(Rehearsal, methods={})
    assert not left.exists()


if __name__ == "__main__":  # the process that is killed
    work(sys.argv[1], 0.1)
