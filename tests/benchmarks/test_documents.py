"""Tables of the guides show the numbers of committed results."""

import pathlib
import re

import numpy as np
import pytest

import benchmarks
from benchmarks.report import _rllc
from benchmarks.runs import read

ROOT = pathlib.Path(benchmarks.__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
INTERVAL = re.compile(r"(−?[\d.]+) \[(−?[\d.]+), (−?[\d.]+)\]")
REGIMES = {
    "CNN, 300 steps of 32": "fashion_mnist_cnn_batch_32",
    "CNN, 100 steps of 128": "fashion_mnist_cnn_batch_128",
    "CNN, 2,000 steps of 32": "fashion_mnist_cnn_2000_steps",
    "transformer, 600 steps of 8": "tiny_shakespeare_transformer",
    "transformer, 200 steps of 64": "tiny_shakespeare_transformer_batch_64",
    "transformer, 3,000 steps of 8": "tiny_shakespeare_transformer_3000_steps",
}
PAIRS = (
    ("rllc", "momentum"),
    ("rllc", "rllc_frozen_initial"),
    ("rllc_adam", "adam"),
    ("rllc_adam", "rllc_adam_frozen_initial"),
    ("rllc_large_batch", "rllc"),
    ("rllc_large_batch", "momentum"),
)
CLAIMS = (
    "combinable in the hypercube",
    "combinable at its vertices",
    "combinable in its vicinity, [−0.25, 1.25]",
    "transitive",
    "robust",
)


def rows(guide, first, columns):
    """The cells of the rows of a guide that start with one of the words."""
    lines = (ROOT / guide).read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns and row[0] in first]


def shows(cell, exact):
    """Whether a cell has these numbers, rounded to the decimals that it shows."""
    shown = INTERVAL.search(cell)
    if not shown:
        return False
    decimals = [len(x.partition(".")[2]) for x in shown.groups()]
    return np.allclose(
        [float(x.replace("−", "-")) for x in shown.groups()],
        exact,
        rtol=0,
        atol=0.5 * 10.0 ** -min(decimals) + 1e-9,
    )


TABLE = rows("rllc/README.md", REGIMES, 8)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(row[:2]))
def test_regimes_are_those_of_the_results(row):
    task, rate, *cells = row
    schedule = rate.replace("-", "_")
    result = read(RESULTS / REGIMES[task])
    if schedule not in result.config["schedules"]:
        result = read(RESULTS / f"{REGIMES[task]}_{schedule}")
    for cell, (method, against) in zip(cells, PAIRS, strict=True):
        run = {method, against} <= set(result.methods)
        found = _rllc.difference(result, schedule, method, against) if run else None
        if found is None:
            assert cell == "–"
        else:
            assert shows(cell, (found.mean, found.low, found.high)), cell
            assert cell.startswith("**") == (found.low * found.high > 0), cell


def test_every_schedule_of_a_regime_has_a_row():
    assert len(TABLE) == 13
    for task, name in REGIMES.items():
        for schedule in read(RESULTS / name).config["schedules"]:
            assert [task, schedule.replace("_", "-")] in [row[:2] for row in TABLE]


@pytest.mark.parametrize("task", ["MNIST", "Fashion-MNIST"])
def test_excesses_by_width_are_those_of_the_results(task):
    name = task.lower().replace("-", "_")
    result = read(RESULTS / f"combinability_{name}_mlp_10_epochs")
    table = rows("combinability/README.md", [task], 8)
    assert [row[1].replace(",", "") for row in table] == list(result.widths)
    for _, width, accuracy, *cells in table:
        found = result.widths[width.replace(",", "")]
        scores = 100 * np.asarray(found.networks["test_accuracy"])
        ends = {f"{end:.1f}" for end in (scores.min(), scores.max())}
        assert set(accuracy.split(" to ")) == ends
        claims = {row.claim: row for row in found.claims}
        for cell, claim in zip(cells, CLAIMS, strict=True):
            row = claims[claim]
            exact = 100 * np.array([row.mean, row.low, row.high])
            assert shows(cell, exact), (width, claim, cell)
            assert cell.startswith("**") == (row.high <= row.bound), (width, cell)
