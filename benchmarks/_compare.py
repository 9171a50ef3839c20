"""A comparison of optimizers from the command line: run folder, progress, report."""

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks import data, report
from benchmarks.rllc import Config, run_comparison
from benchmarks.runs import Run


def compare(
    experiment: str,
    config: Config,
    folder: str | os.PathLike[str] | None = None,
    data_directory: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Runs a comparison into a run folder, or goes on with it, and writes its report.

    Args:
        experiment: how the result names it.
        config: the comparison.
        folder: the run folder; by default as `Run` chooses it.
        data_directory: where datasets lie; by default as `benchmarks.data.load` does.
        console: what to show progress on; by default the terminal's errors.

    Returns:
        The run, and its result.

    Raises:
        RunError, DataError, ValueError: what the user can mend, by its message.
    """
    console = console or Console(stderr=True)
    dataset = data.load(config.dataset, data_directory)
    run = Run(experiment, dataclasses.asdict(config), folder)
    state = "finished before: shown from" if run.finished else "writing to"
    console.print(f"{experiment}: {state} {run.folder}", highlight=False)
    checkpoints = run.folder / "checkpoints"
    with _bars(config, run, console) as (stage, progress):
        found = run_comparison(
            config, stage, progress, dataset=dataset, checkpoints=checkpoints
        )
    result = run.finish(found)
    shutil.rmtree(checkpoints, ignore_errors=True)
    with console.status("Drawing figures"):
        report.write(run.folder)
    return run, result


@contextlib.contextmanager
def _bars(config: Config, run: Run, console: Console) -> Iterator[tuple]:
    """A bar for all methods and one for the stage under way.

    Where there is no terminal to draw on, each stage is a line when it is finished.
    """
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        # A method is tuned and then measured.
        whole = bars.add_task("all methods", total=2 * len(config.methods))
        steps = bars.add_task("", total=None, visible=False)

        def stage(name: str, compute: Callable[[], Any]) -> Any:
            start = time.perf_counter()
            bars.reset(steps, description=name, total=None, visible=True)
            value = run.stage(name, compute)
            if not console.is_terminal:
                console.print(f"{name}: {time.perf_counter() - start:.1f} s")
            if name.endswith((".tune", ".measure")):
                bars.advance(whole)
            return value

        def progress(_: str, done: int, total: int) -> None:
            bars.update(steps, completed=done, total=total)

        yield stage, progress
        bars.update(steps, visible=False)
