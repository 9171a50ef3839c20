"""A tour of RLLC in a minute: the comparison of optimizers, small, on embedded data."""

import os
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks._compare import compare
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
    """Trains a small network on digits with RLLC and what it competes with.

    Args:
        folder: the run folder; by default one under `runs/`.
        console: what to show progress on.

    Returns:
        The run, and its result by the schema of `benchmarks.runs`.
    """
    return compare("tour", CONFIG, folder, console=console)


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
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
