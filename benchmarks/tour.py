"""A tour in a minute: optimizers compared, two networks combined, on embedded data."""

import functools
import os
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks._compare import compare_stage, compared, compute_comparison
from benchmarks._launch import Experiment, launch
from benchmarks.combinability import taste
from benchmarks.rllc import Config
from benchmarks.runs import Run

# As many seeds as trials: both then run in one compiled program.
CONFIG = Config(
    methods=("sgd", "momentum", "adam", "rllc", "rllc_adam"),
    trials=6,
    seeds=6,
    steps=300,
    evaluations=15,
    problems=(),
    strategy="vmap",  # timing the others would take longer than it saves
)


def tour(
    folder: str | os.PathLike[str] | None = None, console: Console | None = None
) -> tuple[Run, dict[str, Any]]:
    """Trains small networks on digits, with RLLC and others, and combines two.

    Args:
        folder: the run folder; by default one under `runs/`.
        console: what to show progress on.

    Returns:
        The run, and its result by the schema of `benchmarks.runs`.
    """

    def compute(stage, progress, dataset, run_folder):
        found = compute_comparison(CONFIG, stage, progress, dataset, run_folder)
        shown = functools.partial(progress, "combine")
        combined = stage("combine", lambda: taste(dataset, shown))
        return found | {"combinability": combined}

    total = compared(CONFIG) + 1
    asked = Experiment("tour", CONFIG, compute, _is_counted, total)
    return launch(asked, folder, console=console)


def _is_counted(stage: str) -> bool:
    return compare_stage(stage) or stage == "combine"


def print_claims(result: dict[str, Any], page: Path, console: Console) -> None:
    """Prints what became of each claim, width by width, and where the report is."""
    for width, found in result["widths"].items():
        look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
        grid = Table(title=f"Width {width}", title_justify="left", **look)
        grid.add_column("combinations are")
        grid.add_column("measured", justify="right", no_wrap=True)
        grid.add_column("verdict", no_wrap=True)
        for row in found["claims"]:
            number = report.with_interval(row)
            bound = f"{row['side']} {row['bound']:g}"
            grid.add_row(row["claim"], f"{number}, {bound}", row["verdict"])
        console.print(grid, "")
    console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)


def print_summary(result: dict[str, Any], page: Path, console: Console) -> None:
    """Prints a small table a schedule, what it says, and where the report is."""
    columns = ("training loss", "validation loss", "test accuracy", "ms a step")
    for schedule, said in report.findings(result).items():
        title = f"{schedule.capitalize()} rate"
        look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
        grid = Table(title=title, title_justify="left", **look)
        grid.add_column("method", no_wrap=True)
        for column in columns:
            grid.add_column(column, justify="right", no_wrap=True)
        for name, row in report.table(result, schedule).items():
            grid.add_row(report.label(name), *(row[column] for column in columns))
        console.print(grid, "")
        for sentence in said:
            console.print(f"- {sentence}", highlight=False)
        console.print()
    if "combinability" in result:
        console.print("Two networks, combined at random", style="italic")
        for sentence in report.combined(result["combinability"]):
            console.print(f"- {sentence}", highlight=False)
        console.print()
    console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
