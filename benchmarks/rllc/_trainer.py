"""Training the runs of one method: its trials, or the tuned method on fresh seeds."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import training
from benchmarks.baselines import Maker, Method
from benchmarks.rllc import _search
from benchmarks.rllc._config import Config
from benchmarks.rllc._statistics import plain
from benchmarks.rllc._variants import response, settled_law

Progress = Callable[[str, int, int], None]
# A law for each schedule.
Laws = Mapping[str, Sequence[float] | None]

TUNING_SEED = 0


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What all methods of a comparison share.

    Args:
      config: The comparison.
      task: What is trained.
      strategy: How runs are advanced.
      progress: Called as `progress(stage, done, total)`.
      checkpoints: A folder that trainings are kept in until their stage is stored.
    """

    config: Config
    task: training.Task
    strategy: training.Strategy
    progress: Progress | None = None
    checkpoints: Path | None = None

    def columns(self, method: Method) -> dict[str, str]:
        """Returns, for each schedule, the schedule that the method is trained with.

        A method without a schedule is trained once and stands in every column.
        """
        return {s: s if method.scheduled else "constant" for s in self.config.schedules}

    def tune(self, method: Method, laws: Laws | None) -> dict[str, Any]:
        """Returns the trials and the selected hyper-parameters for each schedule."""
        trials = _search.sample(method, self.config.trials)
        columns = sorted(set(self.columns(method).values()))
        runs = [(column, trial) for column in columns for trial in trials]
        seeds = [TUNING_SEED] * len(runs)
        history = self._train(f"{method.name}.tune", method, runs, seeds, laws)
        return {
            column: plain(_tuned(method, trials, _slice(history, i, len(trials))))
            for i, column in enumerate(columns)
        }

    def measure(
        self, method: Method, tuned: dict[str, Any], laws: Laws | None
    ) -> dict[str, Any]:
        """Returns what the tuned method does on fresh seeds, for each schedule."""
        fresh = [TUNING_SEED + 1 + i for i in range(self.config.seeds)]
        runs = [(column, tuned[column]["selected"]) for column in tuned for _ in fresh]
        seeds = fresh * len(tuned)
        history = self._train(f"{method.name}.measure", method, runs, seeds, laws)
        return {
            column: plain(_measured(fresh, _slice(history, i, len(fresh))))
            for i, column in enumerate(tuned)
        }

    def _train(
        self,
        stage: str,
        method: Method,
        runs: Sequence[tuple[str, Mapping[str, float]]],
        seeds: Sequence[int],
        laws: Laws | None,
    ) -> training.History:
        config = self.config
        hyper = {
            name: np.array([one[name] for _, one in runs], np.float32)
            for name in method.space
        }
        # The schedule is a traced flag: all runs of a method share one compilation.
        hyper["cosine"] = np.array([column == "cosine" for column, _ in runs])
        if laws is not None:
            hyper["law"] = np.array([laws[column] for column, _ in runs], np.float32)
        progress = self.progress
        folder = self.checkpoints
        return training.train(
            self.task,
            Maker(method, config.steps),
            hyper,
            seeds,
            config.plan,
            eval_params=method.eval_params,
            probe=method.probe,
            strategy=self.strategy,
            checkpoint=None if folder is None else checkpoint_path(folder, stage),
            progress=progress and (lambda done, total: progress(stage, done, total)),
        )


def checkpoint_path(folder: Path, stage: str) -> Path:
    """The file that a stage's training is kept in."""
    return folder / f"{stage}.npz"


def _slice(history: training.History, index: int, count: int) -> training.History:
    """Returns the history of block number `index` of `count` runs each."""
    runs = slice(index * count, (index + 1) * count)
    fields = {
        field.name: getattr(history, field.name)[runs]
        for field in dataclasses.fields(history)
        if field.name != "steps"
        and isinstance(getattr(history, field.name), np.ndarray)
    }
    probes = {name: value[runs] for name, value in history.probes.items()}
    return dataclasses.replace(history, **fields, probes=probes)


def _tuned(
    method: Method, trials: list[dict[str, float]], history: training.History
) -> dict[str, Any]:
    best, at_border = _search.select(
        method, trials, history.final_validation_loss, history.diverged
    )
    probes = {name: value[best] for name, value in history.probes.items()}
    return {
        "space": _search.describe(method),
        "trials": [
            {
                "hyper": trial,
                "train_loss": history.final_train_loss[i],
                "validation_loss": history.final_validation_loss[i],
                "validation_accuracy": history.final_validation_accuracy[i],
                "diverged": history.diverged[i],
            }
            for i, trial in enumerate(trials)
        ],
        "selected": trials[best],
        "at_border": at_border,
        "learned_law": settled_law(probes),
    }


def _measured(seeds: list[int], history: training.History) -> dict[str, Any]:
    return {
        "seeds": seeds,
        "train_loss": history.final_train_loss,
        "validation_loss": history.final_validation_loss,
        "validation_accuracy": history.final_validation_accuracy,
        "test_loss": history.test_loss,
        "test_accuracy": history.test_accuracy,
        "diverged": history.diverged,
        "curves": {
            "steps": history.steps,
            "train_loss": history.train_loss,
            "validation_loss": history.validation_loss,
        },
        "law": _law(history),
        "seconds_per_step": history.seconds_per_step,
        "bytes_per_parameter": history.opt_state_bytes_per_parameter,
    }


def _law(history: training.History) -> dict[str, Any] | None:
    if "law" not in history.probes:
        return None
    law, gain = history.probes["law"], history.probes["gain"]
    return {
        "steps": history.steps,
        "law": law,
        "gain": gain,
        "response": response(law[:, -1]),
    }
