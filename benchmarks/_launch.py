"""An experiment from the command line: run folder, data, progress, report."""

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks import data, report
from benchmarks.runs import Run


class Experiment(NamedTuple):
    """What a command runs.

    Attributes:
        name: how the result names it.
        config: a dataclass with every option, among them `dataset`.
        compute: `compute(stage, progress, dataset=…, folder=…)` gives the result, by
            the schema of `benchmarks.runs`.
        counted: whether a stage, by its name, moves the bar of the whole.
        total: how many such stages there are.
    """

    name: str
    config: Any
    compute: Callable[..., dict[str, Any]]
    counted: Callable[[str], bool]
    total: int


def launch(
    experiment: Experiment,
    folder: str | os.PathLike[str] | None = None,
    data_directory: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Runs an experiment into a run folder, or goes on with it, and writes its report.

    Args:
        experiment: what to run.
        folder: the run folder; by default as `Run` chooses it.
        data_directory: where datasets lie; by default as `benchmarks.data.load` does.
        console: what to show progress on; by default the terminal's errors.

    Returns:
        The run, and its result.

    Raises:
        RunError, DataError, ValueError: what the user can mend, by its message.
    """
    console = console or Console(stderr=True)
    dataset = data.load(experiment.config.dataset, data_directory)
    run = Run(experiment.name, dataclasses.asdict(experiment.config), folder)
    state = "finished before: shown from" if run.finished else "writing to"
    console.print(
        f"{experiment.name}: {state} {run.folder}", markup=False, highlight=False
    )
    with (
        run.tentative(),
        _bars(experiment, run, console) as (stage, progress),
        _compile_once(run),
    ):
        found = experiment.compute(stage, progress, dataset=dataset, folder=run.folder)
    result = run.finish(found)
    for finished in ("checkpoints", "compilations"):
        shutil.rmtree(run.folder / finished, ignore_errors=True)
    with console.status("Drawing figures"):
        report.write(run.folder)
    return run, result


@contextlib.contextmanager
def _compile_once(run: Run) -> Iterator[None]:
    """Equal programs are compiled once a run, also where it was stopped."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    if before[names[0]] is None:
        jax.config.update(names[0], str(run.folder / "compilations"))
        jax.config.update(names[1], 0.2)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@contextlib.contextmanager
def _bars(experiment: Experiment, run: Run, console: Console) -> Iterator[tuple]:
    """A bar for the whole and one for the stage under way.

    Where there is no terminal to draw on, each stage is a line when it is finished.
    """
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        whole = bars.add_task("all stages", total=experiment.total)
        steps = bars.add_task("", total=None, visible=False)

        def stage(name: str, compute: Callable[[], Any]) -> Any:
            start = time.perf_counter()
            bars.reset(steps, description=name, total=None, visible=True)
            value = run.stage(name, compute)
            if not console.is_terminal:
                console.print(f"{name}: {time.perf_counter() - start:.1f} s")
            if experiment.counted(name):
                bars.advance(whole)
            return value

        def progress(_: str, done: int, total: int) -> None:
            bars.update(steps, completed=done, total=total)

        yield stage, progress
        bars.update(steps, visible=False)
