"""`python -m benchmarks`: what it prints, what it returns, and how it goes on."""

import dataclasses
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import get_args

import pytest

import benchmarks.__main__ as command_line
from benchmarks import report, training
from benchmarks.__main__ import COMMANDS, SPEED, main
from benchmarks.configs import combinability, rllc, stitching
from benchmarks.rllc import _experiment
from benchmarks.runs import read_result

# Sizes and methods of `test_rllc`, which shares the compilations.
TINY = ["rllc", "--methods", "sgd", "rllc", "--trials", "3", "--seeds", "3"]
TINY += ["--steps", "12", "--batch-size", "32", "--evaluations", "2"]
TINY += ["--curve-rows", "100", "--problems"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*TINY, "--out", str(folder)]) == 0
    return folder


def test_a_comparison_writes_its_folder(finished):
    result = read_result(finished)
    assert result["config"]["methods"] == ["sgd", "rllc"]
    assert result["config"]["steps"] == 12
    assert set(result["methods"]) == {"sgd", "rllc"}
    assert result["methods"]["rllc"]["constant"]["seeds"] == [1, 2, 3]
    names = {path.name for path in finished.iterdir()}
    assert {"report.html", "learning_curves.png"} <= names
    assert "checkpoints" not in names


def test_report_draws_again_without_running(finished, tmp_path, monkeypatch, capsys):
    shutil.copy(finished / "result.json", tmp_path)
    monkeypatch.setattr(_experiment, "train", None)
    assert main(["report", str(tmp_path)]) == 0
    assert f"Report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert page == (finished / "report.html").read_text()


def test_a_run_is_drawn_into_the_folder_that_is_asked_for(
    finished, tmp_path, monkeypatch
):
    run, shown = tmp_path / "run", tmp_path / "shown"
    run.mkdir()
    shutil.copy(finished / "result.json", run)
    monkeypatch.setattr(report, "draw", lambda figure, format: b"")
    assert main(["report", str(run), "--out", str(shown)]) == 0
    assert [path.name for path in run.iterdir()] == ["result.json"]
    assert {"report.html", "learning_curves.png"} <= {p.name for p in shown.iterdir()}


def test_the_same_command_shows_a_finished_run_again(finished, monkeypatch, capsys):
    monkeypatch.setattr(_experiment, "train", None)
    monkeypatch.setattr(report, "write", lambda folder: None)
    before = (finished / "result.json").read_bytes()
    assert main([*TINY, "--out", str(finished)]) == 0
    assert (finished / "result.json").read_bytes() == before
    captured = capsys.readouterr()
    assert "finished before" in captured.err
    assert "lowest validation loss" in captured.out


def test_ctrl_c_in_a_training_leaves_a_run_that_ends_the_same(
    finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(report, "write", lambda folder: None)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    save, restore, restored = training._Store.save, training._Store.restore, []

    def save_and_stop(store, tree):
        save(store, tree)
        if "sgd.measure" in str(store._path):
            signal.raise_signal(signal.SIGINT)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training._Store, "save", save_and_stop)
        assert main([*TINY, "--out", str(run)]) == 130
    said = capsys.readouterr().err
    assert "Stopped. What is finished is kept; to continue, repeat" in said
    assert "Traceback" not in said
    assert [path.name for path in (run / "stages").iterdir()] == ["sgd.tune.json"]
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["sgd.measure"]

    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (path,) = damaged.glob("checkpoints/sgd.measure/*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main([*TINY, "--out", str(damaged)]) == 2
    (said,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert said.startswith(f"error: checkpoint: {damaged}")
    assert len(said) < 300 + len(str(damaged))
    assert said.endswith("delete it to start again, or name another")

    def remember(store, like):
        found = restore(store, like)
        restored.append(None if found is None else int(found[-1][0]))
        return found

    monkeypatch.setattr(training._Store, "restore", remember)
    assert main([*TINY, "--out", str(run)]) == 0
    # Of 12 steps with 2 evaluations, the first half is not trained again.
    assert restored == [6, None, None]
    interrupted, undisturbed = read_result(run), read_result(finished)
    assert _untimed(interrupted["methods"]) == _untimed(undisturbed["methods"])
    assert interrupted["comparisons"] == undisturbed["comparisons"]
    assert not (run / "checkpoints").exists()


def _untimed(methods):
    return {
        (name, schedule): {**found, "seconds_per_step": None}
        for name, schedules in methods.items()
        for schedule, found in schedules.items()
    }


def test_a_folder_of_another_question_is_rejected(finished, capsys):
    assert main([*TINY, "--seeds", "2", "--out", str(finished)]) == 2
    assert "seeds was 3, now 2" in capsys.readouterr().err


def test_a_bug_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*_, **__):
        return json.loads("not JSON")

    monkeypatch.setattr(_experiment, "train", broken)
    with pytest.raises(ValueError, match="Expecting"):
        main([*TINY, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "taught"),
    [
        ([], ["tour", "rllc", "speed", "report", "report.html"]),
        (["rllc"], ["--methods", "--out", "fresh paired seeds", "(default: 16)"]),
        (["tour"], ["--out", "two minutes"]),
        (["speed"], ["rllc", "one step of RLLC"]),
        (["speed", "rllc"], ["--rounds", "--out", "shown again", "(default: 10000000"]),
        (["report"], ["DIR", "without running them", "--out", "side by side"]),
    ],
)
def test_help_teaches(arguments, taught, capsys):
    try:
        code = main([*arguments, "--help"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert [word for word in taught if word not in text] == []


@pytest.mark.parametrize("experiment", ["rllc", "combinability", "stitching"])
def test_every_option_has_a_text_of_its_own(experiment, capsys):
    with pytest.raises(SystemExit):
        main([experiment, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    config = importlib.import_module(f"benchmarks.{experiment}").Config
    for field in dataclasses.fields(config):
        assert f"--{field.name.replace('_', '-')} " in text
        if "_" in field.name:  # such names do not occur in prose
            assert f"{field.name}: " not in text


def asked(monkeypatch, arguments):
    """The configuration that a command would run."""
    found = []
    monkeypatch.setattr(
        command_line, "_show", lambda *given, **_: found.append(given[2])
    )
    assert main(arguments) == 0
    return found[0]


MODELS = {
    "rllc": get_args(rllc.Model),
    "combinability": tuple(combinability.WIDTHS),
    "stitching": tuple(stitching.LAYERS),
}


@pytest.mark.parametrize("experiment", MODELS)
def test_small_defaults_suit_every_model(experiment, monkeypatch):
    for model in (*MODELS[experiment], "mine:Net"):
        options = [experiment, "--quick", "--model", model]
        config = asked(monkeypatch, options)
        assert config.model == model
        if experiment == "combinability":
            usual = combinability.WIDTHS.get(model, (1,))
            assert max(config.chosen_widths) <= max(usual)
            assert len(config.chosen_widths) == 1


def test_a_width_that_is_given_is_kept_with_small_defaults(monkeypatch):
    options = ["combinability", "--quick", "--model", "mlp", "--widths", "3"]
    assert asked(monkeypatch, options).chosen_widths == (3,)


def test_an_unknown_option_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["tour", "--fast"])
    assert stopped.value.code == 2
    assert "--fast" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["report", "--help"]])
def test_a_command_whose_output_nobody_reads_ends_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "benchmarks", *arguments]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert ended.stderr == ""
    assert ended.returncode in (0, 1)


def test_no_help_waits_for_jax():
    """It takes seconds to import."""
    commands = [[], *([name] for name in COMMANDS), *(["speed", n] for n in SPEED)]
    code = f"""
import sys
from benchmarks.__main__ import main
for command in {commands}:
    try:
        main([*command, "--help"])
    except SystemExit:
        pass
    assert "jax" not in sys.modules, command
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
