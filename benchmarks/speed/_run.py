"""Measurements of speed from the command line: run folder, progress, tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks._launch import Folder, launch
from benchmarks.runs import Progress, Result, Run, read
from benchmarks.speed._combinations import (
    CombinationsConfig,
    combinations_table,
    measure_combinations,
)
from benchmarks.speed._config import CombinabilitySpeedConfig, StitchingSpeedConfig
from benchmarks.speed._matching import (
    MatchingSpeedConfig,
    large_table,
    matching_table,
    measure_large_matching,
    measure_matching,
)
from benchmarks.speed._moments import (
    MomentsSpeedConfig,
    measure_moments,
    moments_table,
)
from benchmarks.speed._optimizer_step import SpeedConfig, measure_steps, step_table
from benchmarks.speed._result import (
    CombinabilityResult,
    OptimizerResult,
    StitchingResult,
)
from benchmarks.speed._task_loss import (
    TaskLossSpeedConfig,
    measure_task_loss,
    task_loss_table,
)

_R = TypeVar("_R", bound=Result)


def run_steps(
    config: SpeedConfig, folder: Folder = None, console: Console | None = None
) -> tuple[Path, OptimizerResult]:
    """Time optimizer steps into a run folder; a finished run is read, not repeated.

    Args:
      config: What is timed.
      folder: The run folder; by default one that follows from the configuration.
      console: Where progress is shown; by default standard error.

    Returns:
      The run folder and the result.
    """

    def measure(here: Run) -> dict[str, Any]:
        return here.stage("steps", lambda: measure_steps(config, here.advance))

    return _run("speed rllc", OptimizerResult, config, measure, folder, console)


def run_combinability(
    config: CombinabilitySpeedConfig,
    folder: Folder = None,
    console: Console | None = None,
) -> tuple[Path, CombinabilityResult]:
    """Time matching and combining into a run folder, as `run_steps` does."""
    matching = MatchingSpeedConfig(
        config.widths, config.rounds, config.seed, config.large
    )
    combining = CombinationsConfig(config.rounds, config.samples)

    def measure(here: Run) -> dict[str, Any]:
        advance = here.advance
        return {
            "matching": here.stage(
                "matching", lambda: measure_matching(matching, advance)
            ),
            "combinations": here.stage(
                "combinations", lambda: measure_combinations(combining, advance)
            ),
            "large": here.stage("large", lambda: measure_large_matching(config.large)),
        }

    asked = ("speed combinability", CombinabilityResult, config, measure)
    return _run(*asked, folder, console)


def run_stitching(
    config: StitchingSpeedConfig,
    folder: Folder = None,
    console: Console | None = None,
) -> tuple[Path, StitchingResult]:
    """Time stitching into a run folder, as `run_steps` does."""
    training = TaskLossSpeedConfig(config.rounds, config.seconds, config.batch_size)
    measures = MomentsSpeedConfig(
        config.samples, config.features, config.rounds, config.seed
    )

    def measure(here: Run) -> dict[str, Any]:
        advance = here.advance
        return {
            "task_loss": here.stage(
                "task_loss", lambda: measure_task_loss(training, advance)
            ),
            "moments": here.stage(
                "moments", lambda: measure_moments(measures, advance)
            ),
        }

    return _run("speed stitching", StitchingResult, config, measure, folder, console)


def _run(
    name: str,
    result: type[_R],
    config: Any,
    measure: Callable[[Run], dict[str, Any]],
    folder: Folder,
    console: Console | None,
) -> tuple[Path, _R]:
    def run(config: Any, folder: Path, progress: Progress) -> _R:
        here = Run(name, config, folder, progress)
        if here.finished:  # no two measurements give the same numbers
            return read(folder)
        return here.finish(result, **measure(here))

    found: Any = launch(run, name, config, folder, console)
    return found


def print_steps(result: dict[str, Any], console: Console) -> None:
    """Prints the measurement as a table, and what its columns mean."""
    title = f"One step on {result['parameters']:,} float32 parameters"
    _print(title, step_table(result), console)
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


def print_combinability(result: dict[str, Any], console: Console) -> None:
    """Prints both measurements as tables, and what they compare."""
    rounds = result["config"]["rounds"]
    title = "ResNet-20 with LayerNorm, matched to a permuted and noisy copy"
    _print(title, matching_table(result["matching"]), console)
    if result.get("large"):
        title = "Large networks with random weights, matched once"
        _print(title, large_table(result["large"]), console)
    _print(
        "Combinations, time per sample",
        combinations_table(result["combinations"]),
        console,
    )
    for sentence in (
        f"Medians of {rounds} rounds, in each of which both ways took their turn; "
        "factors with quartiles.",
        "Matching: coordinate descent with cached products against the same descent "
        "array by array, from the same start (identity) in the same order; pinned "
        "starts from inputs and outputs instead.",
        "Combining: `combinability.evaluate` against `jax.jit` of `jax.lax.map` and a "
        "Python loop over a jitted sample, both by hand with the same combinations. "
        "First calls trace and compile.",
    ):
        console.print(f"- {sentence}", highlight=False)


def print_stitching(result: dict[str, Any], console: Console) -> None:
    """Prints both measurements as tables, and what they compare."""
    config, found = result["config"], result["moments"]
    title = f"Task-loss matching of Tiny-10, {config['batch_size']} images a step"
    _print(title, task_loss_table(result["task_loss"]), console)
    title = f"{found['samples']:,} samples, {found['features']} features"
    _print(title, moments_table(found), console)
    for sentence in (
        f"Medians of {config['rounds']} rounds, in each of which every way took its "
        "turn; factors with quartiles.",
        "Training: samples a second of an affine map through the frozen back, with "
        "network 1's activations computed once before, against two full forward passes "
        "a step. Both take the same steps. Eight maps are trained in one call.",
        "Measures: from moments, seen in one pass, against centred Gram matrices of "
        "all samples (CKA) and the pseudo-inverse (least squares), with the largest "
        "relative difference of their values.",
    ):
        console.print(f"- {sentence}", highlight=False)


def _print(title: str, table: Sequence[Sequence[str]], console: Console) -> None:
    heading, *rows = table
    look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
    grid = Table(title=title, title_justify="left", **look)
    for index, name in enumerate(heading):
        grid.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    console.print(grid, "")
