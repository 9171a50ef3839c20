"""The comparison: every method tuned, then trained on fresh seeds, paired."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import rllc
from benchmarks import data
from benchmarks.baselines import BASELINES, Maker, Method, own_method
from benchmarks.changes import Change
from benchmarks.configs.rllc import LEARNED_FROM, Config
from benchmarks.networks import History, Task, configured_task, open_run, train
from benchmarks.rllc import _tuning
from benchmarks.rllc._compositions import COMPOSITIONS
from benchmarks.rllc._laws import (
    law_probe,
    linear_memory,
    mean_response,
)
from benchmarks.rllc._problems import STEPS, run_problem
from benchmarks.rllc._result import Result
from benchmarks.rllc._variants import METHODS, VARIANTS
from benchmarks.runs import Folder, Progress, Run

# Stages of each method: it is tuned, then measured.
STAGES = 2
TUNING_SEED = 0

# A target is this much above the best baseline's median final training loss.
_TARGET_SLACK = 1.05
_METRICS: dict[str, Callable[[Any], Any]] = {
    "train_loss": lambda result: result["train_loss"],
    "validation_loss": lambda result: result["validation_loss"],
    "validation_error": lambda result: (
        1.0 - np.array(result["validation_accuracy"], float)
    ),
}
Augment = Callable[[Any, Any], Any]
Trials = Sequence[Mapping[str, float]]


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    model: Any = None,
    methods: Sequence[Any] = (),
    folder: Folder = None,
    progress: Progress | None = None,
    data_directory: Folder = None,
) -> Result:
    """Compare optimizers on one task.

    Every method has the same number of trials, from the same points of the unit cube
    laid over its own space, all on one seed. The trial with the lowest final
    validation loss is trained again on fresh seeds, which are the same for all methods.
    A method frozen at a learned law takes the law that the tuned trial of its source
    had on average in the second half of training, and has its own trials for the rate.

    Args:
        config: what to compare, and on what.
        dataset: a dataset in place of the one that the configuration names.
        model: a network in its place: what `benchmarks.models.network` accepts.
        methods: more optimizers: instances of `benchmarks.baselines.Method`, or what
            `benchmarks.baselines.own_method` accepts.
        folder: the run folder, in which an interrupted run continues.
        progress: informed of stages.
        data_directory: where datasets are, as for `benchmarks.data.load`.

    Example:
        >>> config = Config(
        ...     methods=("sgd",), schedules=("constant",), trials=2, seeds=2, steps=10,
        ...     evaluations=2,
        ... )
        >>> run(config).methods["sgd"]["constant"].curves.steps
        [5, 10]
    """
    own = [one if isinstance(one, Method) else own_method(one) for one in methods]
    compared = _methods(config, own)
    here, load = open_run(
        "rllc", config, dataset, model, folder, progress, data_directory, own
    )
    if here.finished:
        return here.result()
    here.expect(STAGES * len(compared) + len(config.problems))
    task = configured_task(config, load(), model)
    return here.finish(Result, **compare(config, here, task, compared))


def _methods(config: Config, own: Sequence[Method]) -> list[Method]:
    """The methods in the order of `METHODS`: laws are learned, then frozen."""
    found = [METHODS[name] for name in METHODS if name in config.methods]
    found += [own_method(name) for name in config.methods if name not in METHODS]
    found += own
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
    """Return the fields of a `Result`."""
    compared = _methods(config, ()) if compared is None else compared
    found: dict[str, dict[str, Any]] = {}
    with jax.default_matmul_precision(config.precision):
        for method in compared:
            source = found.get(LEARNED_FROM.get(method.name, ""), {})
            laws = {schedule: one["learned_law"] for schedule, one in source.items()}
            found[method.name] = run_method(config, here, task, method, laws, augment)
        problems = {
            name: _problem(name, compared, config, here) for name in config.problems
        }
    # A method without a schedule is trained once and stands in every column.
    methods = {
        name: {s: {**of.get(s, of.get("constant", {}))} for s in config.schedules}
        for name, of in found.items()
    }
    targets = {schedule: _target(methods, schedule) for schedule in config.schedules}
    for columns in methods.values():
        for schedule, result in columns.items():
            curves = result["curves"]
            result["steps_to_target"] = _tuning.steps_to_target(
                curves["steps"], curves["train_loss"], targets[schedule]
            )
    rows = []
    for schedule in config.schedules:
        for metric, value in _METRICS.items():
            values = {
                name: value(columns[schedule]) for name, columns in methods.items()
            }
            rows += comparisons(values, schedule, metric)
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
    ours = [n for n in values if n in VARIANTS | COMPOSITIONS or n not in METHODS]
    return [
        row
        | {"method": name, "against": other}
        | _tuning.paired(values[name], values[other])
        for name in ours
        for other in values
        if other != name and (other not in VARIANTS or name in COMPOSITIONS)
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
    curves = [
        np.array(methods[name][schedule]["curves"]["train_loss"], float)
        for name in BASELINES
        if name in methods
    ]
    medians = [np.median(of_method[:, -1]) for of_method in curves]
    return float(_TARGET_SLACK * np.nanmin(medians)) if medians else None


def run_method(
    config: Config,
    here: Run,
    task: Task,
    method: Method,
    laws: Mapping[str, Any],
    augment: Augment | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what trials, then fresh seeds gave, for each schedule."""

    def trained(trials: Mapping[str, Trials], seeds: Sequence[int]) -> History:
        """Runs of all schedules, one after the other."""
        runs = [(schedule, one) for schedule, of in trials.items() for one in of]
        names, chosen = zip(*runs, strict=True)
        return train(
            task,
            Maker(method, config.steps),
            _tuning.stacked(chosen, names, laws),
            [*seeds] * len(trials),
            steps=config.steps,
            batch_size=config.batch_size,
            evaluations=config.evaluations,
            curve_rows=config.curve_rows,
            final_rows=config.final_rows,
            eval_params=method.eval_params,
            probe=law_probe,
            augment=augment,
            change=change,
            checkpoint=here.checkpoint(),
            progress=here.advance,
        )

    change = _change(config, task)
    schedules = sorted(config.schedules) if method.scheduled else ["constant"]

    def tune() -> dict[str, Any]:
        trials = _tuning.sample(method, config.trials)
        seeds = [TUNING_SEED] * len(trials)
        history = trained(dict.fromkeys(schedules, trials), seeds)
        return {
            schedule: _tuned(method, trials, history, _block(i, len(trials)))
            for i, schedule in enumerate(schedules)
        }

    def measure() -> dict[str, Any]:
        seeds = [TUNING_SEED + 1 + i for i in range(config.seeds)]
        selected = {s: [tuned[s]["selected"]] * len(seeds) for s in schedules}
        history = trained(selected, seeds)
        memory = _memory(method, config.steps, tuned[schedules[0]]["selected"], history)
        return {
            schedule: _measured(seeds, history, _block(i, len(seeds)), memory)
            for i, schedule in enumerate(schedules)
        }

    tuned = here.stage(f"{method.name}.tune", tune)
    measured = here.stage(f"{method.name}.measure", measure)
    return {
        schedule: {**tuned[schedule], **measured[schedule]} for schedule in schedules
    }


def _change(config: Config, task: Task) -> Change | None:
    if config.changing is None:
        return None
    kind = task.train.inputs.dtype
    if config.changing == "inputs" and not np.issubdtype(kind, np.floating):
        raise ValueError(
            f"changing: expected 'labels', as inputs of {task.name!r} are tokens, got "
            "'inputs'"
        )
    classes = int(task.train.targets.max()) + 1
    return Change(config.changing, config.change_every, classes)


def _block(index: int, count: int) -> slice:
    """Block number `index` of `count` runs each."""
    return slice(index * count, (index + 1) * count)


def _tuned(
    method: Method, trials: list[dict[str, float]], history: History, runs: slice
) -> dict[str, Any]:
    names = ("train_loss", "validation_loss", "validation_accuracy")
    return _tuning.tuned(
        method,
        trials,
        {name: history.final[name][runs] for name in names},
        history.diverged[runs],
        {name: values[runs] for name, values in history.probes.items()},
        metric="validation_loss",
    )


def _memory(
    method: Method, steps: int, hyper: Mapping[str, Any], history: History
) -> rllc.LinearMemory | None:
    """Return the linear memory that a method learns a law of, if it has one."""
    if "law" not in history.probes:
        return None
    optimizer = Maker(method, steps)({**hyper, "schedule": 0})
    units = history.probes["law"].shape[-1]
    return linear_memory(optimizer, history.variables[0]["params"], units)


def _measured(
    seeds: list[int],
    history: History,
    runs: slice,
    memory: rllc.LinearMemory | None,
) -> dict[str, Any]:
    law = None
    if "law" in history.probes:
        laws = history.probes["law"][runs]
        law = {
            "steps": history.steps,
            "law": laws,
            "gain": history.probes["gain"][runs],
            "response": None,
        }
        if memory is not None:
            law |= {
                "response": mean_response(memory, laws[:, -1]),
                "memory": {"propagator": memory.propagator, "input": memory.input},
            }
    curves = {name: values[runs] for name, values in history.curves.items()}
    del curves["train_batch_loss"]
    seconds = history.seconds if np.isfinite(history.seconds).all() else None
    return {
        "seeds": seeds,
        **{name: values[runs] for name, values in history.final.items()},
        "diverged": history.diverged[runs],
        "curves": {"steps": history.steps, **curves, "seconds": seconds},
        "law": law,
        "seconds_per_step": history.seconds_per_step,
        "bytes_per_parameter": history.bytes_per_parameter,
    }
