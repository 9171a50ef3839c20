"""The comparison: every method tuned, then trained on fresh seeds, paired."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, models, training
from benchmarks._precision import computed_in, module_dtype
from benchmarks.baselines import BASELINES
from benchmarks.rllc._config import METHODS, Config
from benchmarks.rllc._on_problems import run_problems
from benchmarks.rllc._statistics import paired, plain, steps_to_target
from benchmarks.rllc._trainer import Progress, Trainer, checkpoint_path
from benchmarks.rllc._variants import LEARNED_FROM, VARIANTS

Stage = Callable[[str, Callable[[], Any]], Any]

# Stages of each method: it is tuned, then measured.
STAGES = 2

# A target is this much above the best baseline's median final training loss.
_TARGET_SLACK = 1.05
_METRICS: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
    "train_loss": lambda result: np.array(result["train_loss"], float),
    "validation_loss": lambda result: np.array(result["validation_loss"], float),
    "validation_error": lambda result: (
        1.0 - np.array(result["validation_accuracy"], float)
    ),
}


def run_comparison(
    config: Config,
    stage: Stage = lambda name, compute: compute(),
    progress: Progress | None = None,
    *,
    dataset: data.Dataset | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Runs a comparison of optimizers.

    Every method has the same number of trials, from the same points of the unit cube
    laid over its own space, all on one seed. The trial with the lowest final
    validation loss is trained again on fresh seeds, which are the same for all methods.
    A method frozen at a learned law takes the law that the tuned trial of its source
    had on average in the second half of training, and has its own trials for the rate.

    Args:
      config: What to compare, and on what.
      stage: `stage(name, compute)` returns `compute()`, or what that returned when the
        comparison was run before. Names have letters, digits, "." and "_".
      progress: Called as `progress(stage, done, total)`, in steps.
      dataset: The dataset, if it is already loaded.
      folder: Where the training of the stage under way is kept, which goes on from
        there when the comparison is run again; by default nowhere.

    Returns:
      "methods", "targets", "comparisons" and "problems" of the schema in
      `benchmarks.runs`, and "strategy", how the runs were advanced. It is JSON
      throughout, with None for numbers that are not finite.

    Raises:
      ValueError: If the dataset does not suit the model or the minibatch.

    Example:
      >>> config = Config(
      ...     methods=("sgd",), schedules=("constant",), trials=2, seeds=2, steps=10,
      ...     evaluations=2, problems=(), strategy="scan",
      ... )
      >>> result = run_comparison(config)
      >>> result["methods"]["sgd"]["constant"]["curves"]["steps"]
      [5, 10]
    """
    dataset = data.load(config.dataset) if dataset is None else dataset
    checkpoints = None if folder is None else folder / "checkpoints"
    with computed_in(config.precision):
        return _run(config, stage, progress, dataset, checkpoints)


def is_counted(stage: str) -> bool:
    """Whether a stage, by its name, is one of the `STAGES` of a method."""
    return stage.endswith((".tune", ".measure"))


def _run(
    config: Config,
    stage: Stage,
    progress: Progress | None,
    dataset: data.Dataset,
    checkpoints: Path | None,
) -> dict[str, Any]:
    module = models.build(config.model, dataset, module_dtype(config.dtype))
    task = training.make_task(dataset, module)
    runs = config.trials * len(config.schedules)
    strategy = config.strategy or stage(
        "strategy", lambda: training.fastest_strategy(task, config.batch_size, runs)
    )
    trainer = Trainer(config, task, strategy, progress, checkpoints)
    trained = stage if checkpoints is None else _forgetting(stage, checkpoints)
    methods: dict[str, dict[str, Any]] = {}
    laws: dict[str, dict[str, Any]] = {}
    for name in config.ordered_methods:
        source = LEARNED_FROM.get(name)
        columns = _run_method(trainer, trained, name, laws[source] if source else None)
        laws[name] = {key: column["learned_law"] for key, column in columns.items()}
        methods[name] = {
            schedule: dict(columns[column])
            for schedule, column in trainer.columns(METHODS[name]).items()
        }
    targets = {schedule: _target(methods, schedule) for schedule in config.schedules}
    _add_steps_to_target(methods, targets)
    return {
        "methods": methods,
        "targets": targets,
        "comparisons": _comparisons(methods, config.schedules),
        "problems": run_problems(config, stage),
        "strategy": strategy,
    }


def _forgetting(stage: Stage, checkpoints: Path) -> Stage:
    """A stage whose checkpoint is kept until its value is stored, and no longer."""

    def forget(name: str, compute: Callable[[], Any]) -> Any:
        value = stage(name, compute)
        checkpoint_path(checkpoints, name).unlink(missing_ok=True)
        return value

    return forget


def _run_method(
    trainer: Trainer, stage: Stage, name: str, laws: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns what a method's tuning and its fresh seeds gave, for each schedule."""
    method = METHODS[name]
    tuned = stage(f"{name}.tune", lambda: trainer.tune(method, laws))
    measured = stage(f"{name}.measure", lambda: trainer.measure(method, tuned, laws))
    return {column: {**tuned[column], **measured[column]} for column in tuned}


def _target(methods: Mapping[str, Any], schedule: str) -> float | None:
    """Returns the training loss that counts as reached; baselines alone set it."""
    medians = [
        float(np.median([row[-1] for row in curves]))
        for name in BASELINES
        if name in methods
        for curves in [np.array(methods[name][schedule]["curves"]["train_loss"], float)]
    ]
    return plain(_TARGET_SLACK * np.nanmin(medians)) if medians else None


def _add_steps_to_target(
    methods: Mapping[str, Any], targets: Mapping[str, float | None]
) -> None:
    for columns in methods.values():
        for schedule, result in columns.items():
            curves = result["curves"]
            result["steps_to_target"] = steps_to_target(
                curves["steps"], curves["train_loss"], targets[schedule]
            )


def _comparisons(
    methods: Mapping[str, Any], schedules: Sequence[str]
) -> list[dict[str, Any]]:
    """Compares every variant that learns its law with everything that does not."""
    return [
        {
            "schedule": schedule,
            "metric": metric,
            "method": name,
            "against": other,
            **paired(values(methods[name][schedule]), values(methods[other][schedule])),
        }
        for schedule in schedules
        for metric, values in _METRICS.items()
        for name in VARIANTS
        if name in methods
        for other in methods
        if other not in VARIANTS
    ]
