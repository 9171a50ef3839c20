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
HALF_WIDTH = re.compile(r"([+−]?[\d.]+)(?:\*\*)? ± ([\d.]+)")
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
TASKS = {
    "MNIST, MLP": "mnist_mlp",
    "MNIST, MLP, ten epochs": "mnist_mlp_10_epochs",
    "Fashion-MNIST, CNN": "fashion_mnist_cnn",
    "Fashion-MNIST, CNN, 2,000 steps": "fashion_mnist_cnn_2000_steps",
    "Fashion-MNIST, MLP †": "fashion_mnist_mlp",
    "Fashion-MNIST, MLP, ten epochs †": "fashion_mnist_mlp_10_epochs",
    "Characters, transformer †": "tiny_shakespeare_transformer",
    "Characters, transformer, 3,000 steps †": "tiny_shakespeare_transformer_3000_steps",
}
AGAINST = {
    "rllc": ("sgd", "momentum", "nesterov", "adam", "adaptive_memory"),
    "rllc_adam": ("adam", "adamw", "nadam", "ademamix", "adaptive_memory_adam"),
}
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


def shows(cell, exact, pattern=INTERVAL):
    """Whether a cell has these numbers, rounded to the decimals that it shows."""
    shown = pattern.search(cell)
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
LOSSES = rows("README.md", TASKS, 8)


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
    assert len(TABLE) == 15
    for task, name in REGIMES.items():
        for schedule in read(RESULTS / name).config["schedules"]:
            assert [task, schedule.replace("_", "-")] in [row[:2] for row in TABLE]


@pytest.mark.parametrize("ours", AGAINST)
def test_losses_of_the_first_page_are_those_of_the_results(ours):
    # Two tables with the same rows, the second of `rllc_adam`.
    half = len(LOSSES) // 2
    table = LOSSES[half:] if ours == "rllc_adam" else LOSSES[:half]
    results = {task: read(RESULTS / name) for task, name in TASKS.items()}
    expected = [(x, rate) for x in TASKS for rate in results[x].config["schedules"]]
    assert sorted((task, rate) for task, rate, *_ in table) == sorted(expected)
    for task, rate, *cells in table:
        found = {
            row.against: row
            for row in results[task].comparisons
            if (row.schedule, row.metric, row.method) == (rate, "validation_loss", ours)
        }
        against = *AGAINST[ours], f"{ours}_frozen_initial"
        for cell, name in zip(cells, against, strict=True):
            if name not in found:
                assert cell == "–", (task, name)
                continue
            row = found[name]
            exact = row.mean_difference, (row.high - row.low) / 2
            assert shows(cell, exact, HALF_WIDTH), (task, rate, name, cell)
            assert cell.startswith("**") == (row.low * row.high > 0), (task, rate, cell)


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
