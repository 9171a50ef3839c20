"""The stages of the tour: optimizers compared; two networks combined and stitched."""

import functools
import os
from typing import Any

from rich.console import Console

from benchmarks import combinability, rllc, stitching
from benchmarks._launch import Experiment, launch
from benchmarks.runs import Run

# As many seeds as trials: both then run in one compiled program.
CONFIG = rllc.Config(
    methods=("sgd", "momentum", "adam", "rllc", "rllc_adam"),
    trials=6,
    seeds=6,
    steps=300,
    evaluations=15,
    problems=(),
    strategy="vmap",  # timing the others would take longer than it saves
)
# What is made of the pair of networks: stage, and the result's name for its value.
_OF_PAIR = {
    "combine": ("combinability", combinability.taste),
    "stitch": ("stitching", stitching.taste),
}


def tour(
    folder: str | os.PathLike[str] | None = None, console: Console | None = None
) -> tuple[Run, dict[str, Any]]:
    """Trains small networks on digits, with RLLC and others; combines and stitches two.

    Args:
        folder: the run folder; by default one under `runs/`.
        console: what to show progress on.

    Returns:
        The run, and its result by the schema of `benchmarks.runs`.
    """

    def compute(stage, progress, *, dataset, folder):
        found = rllc.run_comparison(
            CONFIG, stage, progress, dataset=dataset, folder=folder
        )
        # Trained in seconds, always to the same networks: not worth keeping.
        pair = functools.cache(lambda: combinability.train_pair(dataset))
        for name, (key, make) in _OF_PAIR.items():
            shown = functools.partial(progress, name)
            found[key] = stage(name, lambda m=make, s=shown: m(pair(), s))
        return found

    total = rllc.STAGES * len(CONFIG.methods) + len(_OF_PAIR)
    asked = Experiment("tour", CONFIG, compute, _is_counted, total)
    return launch(asked, folder, console=console)


def _is_counted(stage: str) -> bool:
    return rllc.is_counted(stage) or stage in _OF_PAIR
