"""A measurement of speed from the command line: run folder, progress, table."""

import os
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from benchmarks.runs import Run, read_result
from benchmarks.speed._optimizer_step import SpeedConfig, measure_steps, step_table


def run_steps(
    config: SpeedConfig,
    folder: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Times optimizer steps into a run folder; a finished run is read, not repeated.

    Args:
      config: What is timed.
      folder: The run folder; by default as `Run` chooses it.
      console: What to show progress on; by default the terminal's errors.

    Returns:
      The run, and its result by the schema of `benchmarks.runs`.

    Raises:
      RunError: If the folder cannot be used, as `Run` says.
    """
    console = console or Console(stderr=True)
    run = Run("speed rllc", vars(config), folder)
    state = "finished before: shown from" if run.finished else "writing to"
    console.print(f"speed rllc: {state} {run.folder}", highlight=False)
    if run.finished:  # no two measurements give the same numbers
        return run, read_result(run.folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("compiling", total=None)

        def progress(done: int, total: int) -> None:
            bars.update(bar, description="rounds", completed=done, total=total)

        measured = run.stage("steps", lambda: measure_steps(config, progress))
    return run, run.finish(measured)


def print_steps(result: dict[str, Any], console: Console) -> None:
    """Prints the measurement as a table, and what its columns mean."""
    heading, *rows = step_table(result)
    title = f"One step on {result['parameters']:,} float32 parameters"
    look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
    grid = Table(title=title, title_justify="left", **look)
    for index, name in enumerate(heading):
        grid.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    console.print(grid, "")
    for sentence in (
        f"Medians of {result['config']['rounds']} rounds, in each of which every "
        f"optimizer took a step; ratios to {result['baseline']} with quartiles.",
        "Traffic: the time that a step cannot avoid, for it must read and write that "
        "much memory, at the speed of a copy here: "
        f"{result['copy_bytes_per_second'] / 1e9:.1f} GB/s.",
        "Temporary: memory beside parameters, state and gradient, relative to the "
        "parameters.",
    ):
        console.print(f"- {sentence}", highlight=False)
