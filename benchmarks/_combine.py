"""Experiments on combinability from the command line."""

import os
from typing import Any

from rich.console import Console

from benchmarks._launch import Experiment, launch
from benchmarks.combinability import STAGES, Config, run_experiment
from benchmarks.runs import Run


def combine(
    config: Config,
    folder: str | os.PathLike[str] | None = None,
    data_directory: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Runs the experiments into a run folder, or goes on, and writes the report.

    Args:
        config: the experiments.
        folder: the run folder; by default as `Run` chooses it.
        data_directory: where datasets lie, by default as `benchmarks.data.load` does,
            and weights that are not found from here.
        console: what to show progress on; by default the terminal's errors.

    Returns:
        The run, and its result.

    Raises:
        RunError, DataError, ValueError: what the user can mend, by its message.
    """

    def compute(stage, progress, dataset, run_folder):
        return run_experiment(
            config,
            stage,
            progress,
            dataset=dataset,
            folder=run_folder,
            data_directory=data_directory,
        )

    total = STAGES * len(config.chosen_widths)
    asked = Experiment("combinability", config, compute, lambda _: True, total)
    return launch(asked, folder, data_directory, console)
