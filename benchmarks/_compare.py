"""A comparison of optimizers from the command line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import data
from benchmarks._launch import Experiment, launch
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

    def compute(stage, progress, dataset, run_folder):
        return compute_comparison(config, stage, progress, dataset, run_folder)

    total = compared(config)
    asked = Experiment(experiment, config, compute, compare_stage, total)
    return launch(asked, folder, data_directory, console)


def compute_comparison(
    config: Config,
    stage: Callable[[str, Callable[[], Any]], Any],
    progress: Callable[[str, int, int], None],
    dataset: data.Dataset,
    folder: Path,
) -> dict[str, Any]:
    """The comparison, with its unfinished training in the run folder."""
    checkpoints = folder / "checkpoints"
    return run_comparison(
        config, stage, progress, dataset=dataset, checkpoints=checkpoints
    )


def compare_stage(name: str) -> bool:
    """Whether a stage is one of the two of a method: it is tuned, then measured."""
    return name.endswith((".tune", ".measure"))


def compared(config: Config) -> int:
    """How many such stages a comparison has."""
    return 2 * len(config.methods)
