"""Run folders: whole files, resumed runs, and refusals that say what to do."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.runs import Run, RunError, _run, read_result, schema

CONFIG = {"steps": 10, "rates": [0.1, 1.0]}


def test_a_finished_stage_is_not_computed_again(tmp_path):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    assert Run("rllc", CONFIG, tmp_path).stage("one", lambda: 2) == 1


def test_a_computed_and_a_stored_stage_are_the_same_value(tmp_path):
    value = {
        "array": np.array([[0.1, np.nan], [np.inf, 3]], np.float32),
        "jax": jnp.arange(3),
        "empty": np.zeros((0, 4)),
        "tuple": (1, 2.5, None, "text", True),
        "scalar": np.float32(0.1),
        "infinite": float("-inf"),
    }
    computed = Run("rllc", CONFIG, tmp_path).stage("one", lambda: value)
    stored = Run("rllc", CONFIG, tmp_path).stage("one", lambda: None)
    for name in ("array", "jax", "empty"):
        np.testing.assert_array_equal(computed[name], value[name])
        assert computed[name].dtype == value[name].dtype
        np.testing.assert_array_equal(computed.pop(name), stored[name])
        assert stored.pop(name).dtype == value[name].dtype
    assert computed == stored
    assert computed["tuple"] == [1, 2.5, None, "text", True]


@pytest.mark.parametrize("value", [{1: 2}, {"a": {2, 3}}, object()])
def test_a_value_that_json_would_change_is_refused(tmp_path, value):
    run = Run("rllc", CONFIG, tmp_path)
    with pytest.raises(TypeError, match="stage value: expected"):
        run.stage("one", lambda: value)
    assert run.stage("one", lambda: 1) == 1


def test_a_stage_that_raises_leaves_nothing_behind(tmp_path):
    run = Run("rllc", CONFIG, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.stage("one", lambda: signal.raise_signal(signal.SIGINT))
    assert run.stage("one", lambda: 7) == 7


def test_stage_names_that_would_leave_the_folder_are_refused(tmp_path):
    run = Run("rllc", CONFIG, tmp_path)
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(RunError, match="stage: expected a name"):
            run.stage(name, lambda: 1)


def test_a_damaged_stage_is_refused_by_name(tmp_path):
    Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)
    stored = tmp_path / "stages" / "one.json"
    for content in (stored.read_bytes()[:5], b"[1]", b"\xff\xfe"):
        stored.write_bytes(content)
        with pytest.raises(RunError, match=r"one\.json is damaged.*delete it"):
            Run("rllc", CONFIG, tmp_path).stage("one", lambda: 1)


def test_another_configuration_is_refused_and_the_difference_named(tmp_path):
    Run("rllc", CONFIG, tmp_path)
    with pytest.raises(RunError, match=r"steps was 10, now 20.*--out"):
        Run("rllc", CONFIG | {"steps": 20}, tmp_path)
    with pytest.raises(RunError, match="experiment was 'rllc', now 'tour'"):
        Run("tour", CONFIG, tmp_path)
    with pytest.raises(RunError, match="extra was None, now 1"):
        Run("rllc", CONFIG | {"extra": 1}, tmp_path)


def test_other_versions_are_not_mixed_into_a_run(tmp_path, monkeypatch):
    Run("rllc", CONFIG, tmp_path)
    newer = _run.versions() | {"jax": "99.0"}
    monkeypatch.setattr(_run, "versions", lambda: newer)
    with pytest.raises(RunError, match=r"version of jax was '.*', now '99.0'"):
        Run("rllc", CONFIG, tmp_path)


def test_tuples_in_a_configuration_do_not_count_as_a_difference(tmp_path):
    Run("rllc", {"rates": (1, 2)}, tmp_path)
    Run("rllc", {"rates": (1, 2)}, tmp_path)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"'thesis\.tex'"):
        Run("rllc", CONFIG, tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file/run: .*--out"):
        Run("rllc", CONFIG, tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"cannot write .*Permission denied"):
        Run("rllc", CONFIG, tmp_path / "run")


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    run = Run("rllc", CONFIG, tmp_path)
    fsync = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*No space left.*make room"):
        run.stage("one", lambda: 1)
    assert list((tmp_path / "stages").iterdir()) == []
    monkeypatch.setattr(os, "fsync", fsync)
    assert run.stage("one", lambda: 2) == 2


def test_the_result_carries_configuration_versions_and_machine(tmp_path):
    run = Run("rehearsal", CONFIG, tmp_path)
    run.stage("one", lambda: time.sleep(0.02))
    result = run.finish({"methods": {"sgd": {"loss": np.array([1, np.nan])}}})
    assert result == read_result(tmp_path)
    assert result["schema"] == schema.NUMBER
    assert result["config"] == CONFIG
    assert result["methods"]["sgd"]["loss"] == [1.0, None]
    assert 0.02 <= result["seconds"] < 2
    assert {"python", "jax", "optax", "numpy", "source"} <= result["versions"].keys()
    assert {"device", "devices", "cpu", "cores"} == result["machine"].keys()
    assert "NaN" not in (tmp_path / "result.json").read_text()


def test_the_default_folder_follows_from_the_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = Run("rllc", CONFIG).folder
    assert first.parent == Path("runs")
    assert Run("rllc", CONFIG).folder == first
    assert Run("rllc", CONFIG | {"steps": 3}).folder != first
    assert Run("tour", CONFIG).folder != first


def test_an_unfinished_run_says_how_to_go_on(tmp_path):
    with pytest.raises(RunError, match=r"holds no result\.json"):
        read_result(tmp_path)
    Run("rllc", CONFIG, tmp_path)
    with pytest.raises(RunError, match="has not finished; go on with\n  python"):
        read_result(tmp_path)


def test_a_result_of_another_schema_or_damaged_is_refused(tmp_path):
    path = tmp_path / "result.json"
    for content, why in [
        ({"schema": 99}, "expected schema 1, got 99"),
        ([], "expected schema 1, got None"),
        ({"schema": 1, "config": {}}, "the whole: it lacks 'experiment'"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(RunError, match=why):
            read_result(tmp_path)
    path.write_text('{"schema": 1')
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        read_result(tmp_path)


def work(folder, seconds):
    """Computes a run of six stages, each from the one before; gives those computed."""
    run, computed = Run("rehearsal", {"stages": 6}, folder), []
    total = np.zeros(3, np.float32)
    for index in range(6):

        def compute(index=index, total=total):
            time.sleep(seconds)
            print(index, flush=True)
            computed.append(index)
            noise = np.random.default_rng(index).normal(size=3)
            return {"total": total + noise.astype(np.float32)}

        total = run.stage(f"stage-{index}", compute)["total"]
    run.finish({"methods": {"sgd": {"total": total}}})
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
        read_result(tmp_path / "killed")

    resumed = work(tmp_path / "killed", 0)
    assert resumed[-3:] == [3, 4, 5]
    assert not {0, 1} & set(resumed)
    assert work(tmp_path / "whole", 0) == [0, 1, 2, 3, 4, 5]
    one, other = (read_result(tmp_path / name) for name in ("whole", "killed"))
    assert one["methods"] == other["methods"]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_write_that_is_killed_in_the_middle_is_not_taken_for_whole(tmp_path):
    run = Run("rllc", CONFIG, tmp_path)
    left = tmp_path / "stages" / ".one.json.1.partial"
    left.write_text('{"seconds": 1, "val')
    assert Run("rllc", CONFIG, tmp_path).stage("one", lambda: 5) == 5
    run.finish({"methods": {}})
    assert not left.exists()


if __name__ == "__main__":  # the process that is killed
    work(sys.argv[1], 0.1)
