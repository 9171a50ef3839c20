"""`python -m benchmarks report DIR DIR`: runs of one experiment side by side."""

import copy
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.report import _rllc
from benchmarks.report._numbers import over_seeds
from benchmarks.runs import RESULTS as RESULTS_OF
from benchmarks.runs import read

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results"
RESULTS = sorted(path.parent for path in COMMITTED.glob("*/result.json"))


@pytest.fixture
def runs(result, tmp_path):
    """Two run folders: the second had more steps, another JAX, and a better SGD."""
    other = copy.deepcopy(result)
    other["config"]["steps"] = 120
    other["versions"]["jax"] = "0.11"
    other["command"] += " --steps 120"
    losses = other["methods"]["sgd"]["constant"]["validation_loss"]
    other["methods"]["sgd"]["constant"]["validation_loss"] = [x / 2 for x in losses]
    del other["methods"]["adam"]
    kept = [row for row in other["comparisons"] if row["against"] != "adam"]
    other["comparisons"] = kept
    folders = []
    for name, content in (("short", result), ("long", other)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        (folders[-1] / "result.json").write_text(json.dumps(content))
    return folders


def tables(page):
    """The rows of each table by the title of its section."""
    return {each.title: each.tables[0][1].rows for each in page.sections if each.tables}


def test_what_differs_is_what_was_changed(runs):
    page = report.compare(runs)
    assert page.subtitle == "short, long"
    assert tables(page)["What differs"] == [
        ["steps", "60", "120"],
        ["version of jax", "0.10", "0.11"],
    ]


def test_numbers_stand_side_by_side_with_their_intervals(runs, result):
    rows = {row[0]: row[1:] for row in tables(report.compare(runs))["Every number"]}
    losses = np.array(result["methods"]["sgd"]["constant"]["validation_loss"])
    kind = "Validation loss, constant rate"
    assert rows[f"{kind}: SGD"] == tuple(
        map(str, map(over_seeds, (losses, losses / 2)))
    )
    assert rows[f"{kind}: Adam"][1] == "–"
    interval = scipy.stats.ttest_1samp(losses, 0).confidence_interval(0.95)
    found = over_seeds(losses)
    assert found.mean == pytest.approx(losses.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_what_diverged_is_left_out_of_a_mean():
    assert over_seeds([1.0, None, 3.0]).mean == 2
    assert math.isnan(over_seeds([None, None]).mean)
    assert str(over_seeds([0.5])) == "0.500"


def test_the_command_says_what_differs_and_what_came_out(runs, tmp_path, capsys):
    out = tmp_path / "both"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "What differs" in said
    assert "Validation loss" in said
    assert f"Comparison: {out / 'comparison.html'}" in said
    assert {path.name for path in out.iterdir()} == {
        "comparison.html",
        "comparison_comparison.png",
        "comparison_curves.png",
    }
    page = (out / "comparison.html").read_text()
    assert "2 runs of rllc" in page
    assert "--steps 120" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)


def test_without_a_folder_the_page_lies_beside_the_first_run(runs):
    page = report.write(*runs)
    assert page == runs[0] / "comparison.html"


def test_runs_that_cannot_be_compared_are_rejected(runs, capsys):
    first, second = map(str, runs)
    shutil.copy(COMMITTED / "speed_rllc" / "result.json", runs[1])
    for folders, said in [
        (
            [first, second],
            "expected runs of one experiment to compare, got rllc",
        ),
        ([first, first], "expected two or more different run folders"),
        ([first, first + "/nothing"], "holds no result.json"),
        ([], "expected two or more different run folders to compare, got none"),
    ]:
        assert main(["report", *folders]) == 2
        assert said in capsys.readouterr().err
    assert not (runs[0] / "comparison.html").exists()


def test_every_experiment_can_be_compared():
    assert report._COMPARISONS.keys() == RESULTS_OF.keys()


@pytest.mark.parametrize("folder", RESULTS, ids=[folder.name for folder in RESULTS])
def test_a_committed_result_is_equal_to_itself_and_has_numbers(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    found = tables(report.compare([folder, other]))
    assert "What differs" not in found
    assert found["Every number"]
    for _, one, other in found["Every number"]:
        assert one == other


def test_differences_over_batch_sizes_are_those_of_each_run(runs, result):
    changed = json.loads((runs[1] / "result.json").read_text())
    changed["config"]["batch_size"] = 2 * result["config"]["batch_size"]
    (runs[1] / "result.json").write_text(json.dumps(changed))
    page = report.compare(runs)
    found = page.sections[0].figures[0]
    assert found.name == "regimes"
    axes = [draw() for draw in found.panels[0].draws]
    schedule = next(iter(result["methods"]["rllc"]))
    expected = [
        _rllc.difference(read(folder), schedule, "rllc", "rllc_frozen_initial")
        for folder in runs
    ]
    np.testing.assert_allclose(
        axes[0].lines[1].get_ydata(), [number.mean for number in expected if number]
    )


def test_runs_of_one_batch_size_have_no_figure_over_batch_sizes(runs):
    names = [each.name for each in report.compare(runs).sections[0].figures]
    assert "regimes" not in names
