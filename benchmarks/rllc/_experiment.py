"""The comparison: every method tuned, then trained on fresh seeds, paired."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import data, models
from benchmarks._precision import computed_in, module_dtype
from benchmarks.baselines import BASELINES, Maker, Method, own_method
from benchmarks.networks import History, Plan, Task, make_task, train
from benchmarks.rllc import _tuning
from benchmarks.rllc._config import LEARNED_FROM, Config
from benchmarks.rllc._problems import STEPS, run_problem
from benchmarks.rllc._result import Result
from benchmarks.rllc._variants import METHODS, VARIANTS, response, settled_law
from benchmarks.runs import Progress, Run

# Stages of each method: it is tuned, then measured.
STAGES = 2
TUNING_SEED = 0

# A target is this much above the best baseline's median final training loss.
_TARGET_SLACK = 1.05
_METRICS: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
    "train_loss": lambda result: np.array(result["train_loss"], float),
    "validation_loss": lambda result: np.array(result["validation_loss"], float),
    "validation_error": lambda result: (
        1.0 - np.array(result["validation_accuracy"], float)
    ),
}
Augment = Callable[[Any, Any], Any]


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    model: Any = None,
    methods: Sequence[Any] = (),
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> Result:
    """Compare optimizers on one task.

    Every method has the same number of trials, from the same points of the unit cube
    laid over its own space, all on one seed. The trial with the lowest final
    validation loss is trained again on fresh seeds, which are the same for all methods.
    A method frozen at a learned law takes the law that the tuned trial of its source
    had on average in the second half of training, and has its own trials for the rate.

    Args:
      config: What to compare, and on what.
      dataset: A dataset in place of the one that the configuration names.
      model: A network in its place: what `benchmarks.models.network` accepts.
      methods: More optimizers: instances of `benchmarks.baselines.Method`, or what
        `benchmarks.baselines.own_method` accepts.
      folder: The run folder, in which an interrupted run continues.
      progress: Informed of stages.
      data_directory: Where datasets are, as for `benchmarks.data.load`.

    Raises:
      ValueError: If the dataset does not suit the model or the minibatch.

    Example:
      >>> config = Config(
      ...     methods=("sgd",), schedules=("constant",), trials=2, seeds=2, steps=10,
      ...     evaluations=2,
      ... )
      >>> run(config).methods["sgd"]["constant"].curves.steps
      [5, 10]
    """
    if dataset is None:
        data.check(config.dataset, data_directory)
    if model is None:
        models.check(config.model, config.model_options)
    compared = _methods(config, methods)
    here = Run("rllc", config, folder, progress)
    here.expect(STAGES * len(compared) + len(config.problems))
    if dataset is None:
        dataset = data.load(config.dataset, data_directory)
    if model is None:
        dtype, options = module_dtype(config.dtype), config.model_options
        model = models.build(config.model, dataset, dtype, options=options)
    rows = len(dataset.train.inputs)
    if config.batch_size > rows:
        raise ValueError(
            f"batch_size: expected at most {rows}, the training rows of "
            f"{dataset.name!r}, got {config.batch_size}"
        )
    task = make_task(dataset, model)
    return here.finish(Result, **compare(config, here, task, compared))


def _methods(config: Config, own: Sequence[Any]) -> list[Method]:
    """The methods in the order of `METHODS`: laws are learned, then frozen."""
    found = [METHODS[name] for name in METHODS if name in config.methods]
    paths = [name for name in config.methods if name not in METHODS]
    found += [own_method(path) for path in paths]
    found += [one if isinstance(one, Method) else own_method(one) for one in own]
    names = [method.name for method in found]
    if len(set(names)) < len(names):
        raise ValueError(f"methods: expected different names, got {names}")
    return found


def compare(
    config: Config,
    here: Run,
    task: Task,
    compared: Sequence[Method] | None = None,
    augment: Augment | None = None,
) -> dict[str, Any]:
    """Return the fields of a `Result`.

    Args:
      config: What to compare.
      here: Where stages are kept.
      task: What is trained.
      compared: The methods; by default those that the configuration names.
      augment: Changes the inputs of minibatches, as for `benchmarks.networks.train`.
    """
    compared = _methods(config, ()) if compared is None else compared
    methods: dict[str, dict[str, Any]] = {}
    laws: dict[str, dict[str, Any]] = {}
    with computed_in(config.precision):
        for method in compared:
            trainer = _Trainer(config, here, task, method, augment)
            trainer.laws = laws.get(LEARNED_FROM.get(method.name, ""))
            found = trainer.run()
            laws[method.name] = {key: one["learned_law"] for key, one in found.items()}
            methods[method.name] = {
                schedule: dict(found[column])
                for schedule, column in trainer.columns.items()
            }
        problems = {
            name: _problem(name, compared, config, here) for name in config.problems
        }
    targets = {schedule: _target(methods, schedule) for schedule in config.schedules}
    for columns in methods.values():
        for schedule, result in columns.items():
            curves = result["curves"]
            result["steps_to_target"] = _tuning.steps_to_target(
                curves["steps"], curves["train_loss"], targets[schedule]
            )
    rows = [
        row
        for schedule in config.schedules
        for metric, values in _METRICS.items()
        for row in comparisons(
            {name: values(columns[schedule]) for name, columns in methods.items()},
            schedule,
            metric,
        )
    ]
    return {
        "methods": methods,
        "targets": targets,
        "comparisons": rows,
        "problems": problems,
    }


def comparisons(
    values: Mapping[str, Any], schedule: str, metric: str
) -> list[dict[str, Any]]:
    """Compare methods that learn their law, and your own, with all others."""
    row = {"schedule": schedule, "metric": metric}
    ours = [name for name in values if name in VARIANTS or name not in METHODS]
    return [
        row
        | {"method": name, "against": other}
        | _tuning.paired(values[name], values[other])
        for name in ours
        for other in values
        if other not in VARIANTS and other != name
    ]


def _problem(
    name: str, compared: Sequence[Method], config: Config, here: Run
) -> dict[str, Any]:
    methods = here.stage(name, lambda: run_problem(name, compared, config))
    values = {name: found["log10_loss"] for name, found in methods.items()}
    rows = comparisons(values, "constant", "log10_loss")
    return {"steps": STEPS, "methods": methods, "comparisons": rows}


def _target(methods: Mapping[str, Any], schedule: str) -> float | None:
    """Return the training loss that counts as reached; baselines alone set it."""
    medians = [
        float(np.median([row[-1] for row in curves]))
        for name in BASELINES
        if name in methods
        for curves in [np.array(methods[name][schedule]["curves"]["train_loss"], float)]
    ]
    return float(_TARGET_SLACK * np.nanmin(medians)) if medians else None


class _Trainer:
    """Trains one method: its trials, then the tuned method on fresh seeds."""

    def __init__(
        self,
        config: Config,
        here: Run,
        task: Task,
        method: Method,
        augment: Augment | None,
    ):
        self._config, self._here, self._task = config, here, task
        self._method, self._augment = method, augment
        # The schedule that each column shows: a method without a schedule is trained
        # once and stands in every column.
        self.columns = {
            s: s if method.scheduled else "constant" for s in config.schedules
        }
        self.laws: Mapping[str, Sequence[float] | None] | None = None

    def run(self) -> dict[str, dict[str, Any]]:
        """Return what tuning and fresh seeds gave, for each schedule."""
        name = self._method.name
        tuned = self._here.stage(f"{name}.tune", self._tune)
        measured = self._here.stage(f"{name}.measure", lambda: self._measure(tuned))
        return {column: {**tuned[column], **measured[column]} for column in tuned}

    def _tune(self) -> dict[str, Any]:
        trials = _tuning.sample(self._method, self._config.trials)
        columns = sorted(set(self.columns.values()))
        runs = [(column, trial) for column in columns for trial in trials]
        history = self._train(runs, [TUNING_SEED] * len(runs))
        return {
            column: _tuned(self._method, trials, history, _block(i, len(trials)))
            for i, column in enumerate(columns)
        }

    def _measure(self, tuned: dict[str, Any]) -> dict[str, Any]:
        fresh = [TUNING_SEED + 1 + i for i in range(self._config.seeds)]
        runs = [(column, tuned[column]["selected"]) for column in tuned for _ in fresh]
        history = self._train(runs, fresh * len(tuned))
        return {
            column: _measured(fresh, history, _block(i, len(fresh)))
            for i, column in enumerate(tuned)
        }

    def _train(
        self, runs: Sequence[tuple[str, Mapping[str, float]]], seeds: Sequence[int]
    ) -> History:
        method, config = self._method, self._config
        hyper = {
            name: np.array([one[name] for _, one in runs], np.float32)
            for name in method.space
        }
        # The schedule is a traced flag: all runs of a method share one compilation.
        hyper["cosine"] = np.array([column == "cosine" for column, _ in runs])
        if self.laws is not None:
            laws = [self.laws[column] for column, _ in runs]
            hyper["law"] = np.array(laws, np.float32)
        return train(
            self._task,
            Maker(method, config.steps),
            hyper,
            seeds,
            Plan(
                config.steps,
                config.batch_size,
                config.evaluations,
                config.curve_rows,
                config.final_rows,
            ),
            eval_params=method.eval_params,
            probe=method.probe,
            augment=self._augment,
            checkpoint=self._here.checkpoint(),
            progress=self._here.advance,
        )


def _block(index: int, count: int) -> slice:
    """Block number `index` of `count` runs each."""
    return slice(index * count, (index + 1) * count)


def _tuned(
    method: Method, trials: list[dict[str, float]], history: History, runs: slice
) -> dict[str, Any]:
    losses = history.final_validation_loss[runs]
    diverged = history.diverged[runs]
    best, at_border = _tuning.select(method, trials, losses, diverged)
    probes = {name: value[runs][best] for name, value in history.probes.items()}
    columns = {
        "hyper": trials,
        "train_loss": history.final_train_loss[runs],
        "validation_loss": losses,
        "validation_accuracy": history.final_validation_accuracy[runs],
        "diverged": diverged,
    }
    rows = zip(*columns.values(), strict=True)
    return {
        "space": _tuning.describe(method),
        "trials": [dict(zip(columns, row, strict=True)) for row in rows],
        "selected": trials[best],
        "at_border": at_border,
        "learned_law": settled_law(probes),
    }


def _measured(seeds: list[int], history: History, runs: slice) -> dict[str, Any]:
    law = None
    if "law" in history.probes:
        laws = history.probes["law"][runs]
        law = {
            "steps": history.steps,
            "law": laws,
            "gain": history.probes["gain"][runs],
            "response": response(laws[:, -1]),
        }
    return {
        "seeds": seeds,
        "train_loss": history.final_train_loss[runs],
        "validation_loss": history.final_validation_loss[runs],
        "validation_accuracy": history.final_validation_accuracy[runs],
        "test_loss": history.test_loss[runs],
        "test_accuracy": history.test_accuracy[runs],
        "diverged": history.diverged[runs],
        "curves": {
            "steps": history.steps,
            "train_loss": history.train_loss[runs],
            "validation_loss": history.validation_loss[runs],
            "validation_accuracy": history.validation_accuracy[runs],
            "seconds": history.seconds if np.isfinite(history.seconds).all() else None,
        },
        "law": law,
        "seconds_per_step": history.seconds_per_step,
        "bytes_per_parameter": history.opt_state_bytes_per_parameter,
    }
