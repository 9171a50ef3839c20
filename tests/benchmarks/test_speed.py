"""Speed is measured, in turns and against a baseline of the same run."""

import numpy as np
import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.runs import read_result
from benchmarks.speed import (
    CombinabilitySpeedConfig,
    SpeedConfig,
    _run,
    print_combinability,
    run_combinability,
    step_table,
)
from benchmarks.speed._interleaved import interleaved, ratio
from benchmarks.speed._optimizer_step import _shapes

TINY = ["speed", "rllc", "--parameters", "1100000", "--rounds", "3"]
STEP = {"seconds": 1e-3, "floor_seconds": 1e-3, "temporary_share": 0.0}
RESULT = {
    "parameters": 1_100_000,
    "copy_bytes_per_second": 1e10,
    "baseline": "adam",
    "steps": {"adam": STEP | {"ratio": {"median": 1.0, "low": 1.0, "high": 1.0}}},
}


def test_programs_take_turns():
    order = []
    programs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    times = interleaved(programs, rounds=2)
    assert order == ["a", "b"] * 3
    assert {name: len(row) for name, row in times.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_round_by_round():
    noise = np.array([1.0, 10.0, 100.0])
    assert ratio(2 * noise, noise) == {"median": 2, "low": 2, "high": 2}


@pytest.mark.parametrize("parameters", [2_000_000, 10_000_000, 1_049_600 * 3])
def test_the_parameters_are_as_many_as_asked(parameters):
    assert sum(int(np.prod(shape)) for shape in _shapes(parameters)) == parameters


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run folder of `python -m benchmarks speed rllc`."""
    folder = tmp_path_factory.mktemp("speed") / "run"
    assert main([*TINY, "--out", str(folder)]) == 0
    return folder


def test_a_small_measurement_is_complete(measured):
    result = read_result(measured)
    assert result["experiment"] == "speed rllc"
    assert result["config"] == {"parameters": 1_100_000, "rounds": 3}
    assert result["parameters"] == 1_100_000
    assert result["copy_bytes_per_second"] > 0
    assert result["steps"]["adam"]["ratio"]["median"] == 1
    assert {"rllc_1", "rllc_2", "rllc_4", "ademamix"} <= result["steps"].keys()
    for step in result["steps"].values():
        assert step.keys() == {"seconds", "ratio", "floor_seconds", "temporary_share"}
        assert step["seconds"] > 0
        assert step["floor_seconds"] > 0
    rows = step_table(result)
    assert len(rows) == 1 + len(result["steps"])
    assert len({len(row) for row in rows}) == 1


def test_a_finished_measurement_is_shown_again_and_not_repeated(
    measured, monkeypatch, capsys
):
    monkeypatch.setattr(_run, "measure_steps", None)
    before = (measured / "result.json").read_bytes()
    assert main([*TINY, "--out", str(measured)]) == 0
    assert (measured / "result.json").read_bytes() == before
    said = capsys.readouterr()
    assert "finished before" in said.err
    _, *rows = step_table(read_result(measured))
    lines = said.out.splitlines()
    for row in rows:
        assert any(all(cell in line for cell in row) for line in lines), row
    assert f"Numbers: {measured / 'result.json'}" in said.out


def test_a_stopped_measurement_is_made_anew(tmp_path, monkeypatch):
    def stop(config, progress):
        progress(1, 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "measure_steps", stop)
    run = tmp_path / "run"
    assert main([*TINY, "--out", str(run)]) == 130
    monkeypatch.setattr(_run, "measure_steps", lambda config, progress: RESULT)
    assert main([*TINY, "--out", str(run)]) == 0
    assert read_result(run)["steps"] == RESULT["steps"]


def test_a_measurement_has_no_report(measured, capsys):
    assert main(["report", str(measured)]) == 2
    said = capsys.readouterr().err
    assert "a run of 'speed rllc' has no figures" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("bad", [{"parameters": 10}, {"rounds": 0}])
def test_measurements_without_meaning_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SpeedConfig(**bad)


def test_matching_and_combining_are_timed_into_one_result(tmp_path, monkeypatch):
    ratio = {"median": 0.5, "low": 0.4, "high": 0.6}
    one = {"seconds": 1.0, "ratio": ratio, "objective": 3.0, "recovered": 1.0}
    matching = {
        "baseline": "loop",
        "widths": {"4": {"parameters": 7, "matching": {"loop": one, "identity": one}}},
    }
    programs = {"evaluate": 1.0, "map": 1.0, "loop": 1.1}
    case = {
        "images": 32,
        "first_seconds": programs,
        "first_ratio": ratio,
        "seconds": {"48": programs},
        "to_map": {"48": {"median": 2.0, "low": 1.9, "high": 2.1}},
        "to_loop": {"48": ratio},
    }
    combining = {"cases": {"mlp": case}}
    asked = {}
    for name, value in (("matching", matching), ("combinations", combining)):

        def measure(config, progress, name=name, value=value):
            asked[name] = config
            progress(1, 1)
            return value

        monkeypatch.setattr(f"benchmarks.speed._run.measure_{name}", measure)
    config = CombinabilitySpeedConfig(widths=(4,), rounds=3, samples=(48,), seed=2)
    folder, _ = run_combinability(config, tmp_path / "run")
    result = read_result(folder)
    assert (asked["matching"].widths, asked["matching"].seed) == ((4,), 2)
    assert asked["combinations"].samples == (48,)
    assert (result["matching"], result["combinations"]) == (matching, combining)
    asked.clear()
    run_combinability(config, folder)
    assert read_result(folder) == result
    assert not asked, "a finished measurement is shown, not repeated"
    with open(tmp_path / "shown", "w") as file:
        print_combinability(result, Console(file=file, width=120))
    shown = (tmp_path / "shown").read_text()
    assert "2.00 (1.67 to 2.50)" in shown
    assert "2.00 (1.90 to 2.10)" in shown
