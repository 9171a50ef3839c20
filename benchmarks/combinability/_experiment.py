"""The experiments, stage by stage, width by width."""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import combinability
from benchmarks import data, runs
from benchmarks._precision import computed_in
from benchmarks.combinability._alignment import align, permutation_of
from benchmarks.combinability._claims import claims
from benchmarks.combinability._config import Config
from benchmarks.combinability._controls import run_controls
from benchmarks.combinability._distinctness import run_differences
from benchmarks.combinability._hypercube import CELLS, run_cell
from benchmarks.combinability._landscape import planes
from benchmarks.combinability._networks import training_of
from benchmarks.combinability._result import Result
from benchmarks.combinability._robustness import run_robustness
from benchmarks.combinability._scoring import make_judge
from benchmarks.networks import (
    load_networks,
    make_task,
    module_of,
    read_networks,
    save_networks,
    scores_of,
    train_networks,
)

# Stages of each width.
STAGES = 7 + len(CELLS)

Stage = Callable[[str, Callable[[], Any]], Any]
Progress = Callable[[str, int, int], None]


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: runs.Progress | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> Result:
    """Run the experiments into a run folder.

    Args:
      config: The experiments.
      dataset: A dataset in place of the one that the configuration names.
      folder: The run folder, in which an interrupted run continues.
      progress: What is told of stages.
      data_directory: Where datasets are, and weights that are not found from here.
    """
    here = runs.Run("combinability", config, folder, progress)
    found = run_experiment(
        config,
        here.stage,
        lambda _, done, total: here.advance(done, total),
        dataset=dataset,
        folder=here.folder,
        data_directory=data_directory,
    )
    return here.finish(Result, **found)


def run_experiment(
    config: Config,
    stage: Stage = lambda name, compute: compute(),
    progress: Progress | None = None,
    *,
    dataset: data.Dataset | None = None,
    folder: Path | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Reads or trains, aligns and combines networks of each width.

    Args:
      config: What to train and how much to evaluate.
      stage: `stage(name, compute)` returns `compute()`, or what that returned when the
        experiment was run before.
      progress: Called as `progress(stage, done, total)`.
      dataset: The dataset, if it is already loaded.
      folder: Where networks and unfinished work are kept; by default nowhere.
      data_directory: Where datasets lie, and weights that are not found from here.

    Returns:
      "widths" of the schema in `benchmarks.runs`.

    Raises:
      ValueError: If the dataset does not suit the model or has too few rows, or there
        are too few networks.
      RunError: If a file of weights cannot be used.
    """
    dataset = data.load(config.dataset, data_directory) if dataset is None else dataset
    if dataset.kind != "image":
        raise ValueError(
            f"dataset {dataset.name!r} is {dataset.kind} data: model {config.model!r} "
            "reads images"
        )
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return run_experiment(
                config,
                stage,
                progress,
                dataset=dataset,
                folder=Path(temporary),
                data_directory=data_directory,
            )
    shared = (stage, progress, folder, data_directory)
    with computed_in(config.precision):
        widths = {
            str(width): _run_width(_Width(config, dataset, width, *shared))
            for width in config.chosen_widths
        }
    return {"widths": widths}


class _Width:
    """What the stages of one width share."""

    def __init__(self, config, dataset, width, stage, progress, folder, data_directory):
        self.width, self.folder = width, folder
        self._stage, self._progress = stage, progress
        module = module_of(config.model, width, dataset, config.dtype)
        self.task = make_task(dataset, module)
        self._given = None
        if config.weights:
            self._given = read_networks(config.weights, self.task, data_directory)
            config = dataclasses.replace(config, networks=len(self._given))
        if config.networks < 3:
            raise ValueError(
                f"networks is {config.networks}: expected at least 3, for transitivity "
                "needs a third."
            )
        self.config = config
        self.judge = make_judge(self.task, config.rows, config.calibration, config.seed)
        self.key = jax.random.fold_in(jax.random.key(config.seed), width)

    def stage(self, name: str, compute: Callable[..., Any]) -> Any:
        """The value of a stage of this width; `compute` is given its progress."""
        full = f"width-{self.width}.{name}"
        progress = self._progress and functools.partial(self._progress, full)
        return self._stage(full, lambda: compute(progress))

    @functools.cached_property
    def networks(self) -> list[Any]:
        """The variables of the networks: those given, or those that training kept."""
        if self._given is not None:
            return self._given
        like = jax.eval_shape(self.task.init, jax.random.key(0))
        found = load_networks(self._file, like, self.config.networks)
        return [jax.tree.map(jnp.asarray, variables) for variables in found]

    @functools.cached_property
    def symmetry(self) -> combinability.Symmetry:
        """The permutation symmetry of the architecture."""
        example = self.judge.calibration.inputs[:2]
        return combinability.infer_symmetry(self.judge.apply, self.networks[0], example)

    @property
    def _file(self) -> Path:
        return self.folder / "networks" / f"width-{self.width}.npz"

    def train(self, progress: Any) -> dict[str, Any]:
        """Trains and keeps the networks, if none are given; returns final scores."""
        if self._given is not None:
            return scores_of(self.task, self._given, progress)
        checkpoint = self.folder / "checkpoints" / f"width-{self.width}.train"
        variables, scores = train_networks(
            training_of(self.config), self.task, progress, checkpoint
        )
        save_networks(self._file, variables)
        return scores

    def pair(self, aligned: dict[str, Any], i: int, j: int) -> tuple[Any, Any, Any]:
        """Network i, network j, and network j aligned to network i."""
        permutation = permutation_of(aligned, self.symmetry, i, j)
        moved = self.symmetry.apply(permutation, self.networks[j])
        return self.networks[i], self.networks[j], moved


def _run_width(it: _Width) -> dict[str, Any]:
    """All stages of one width; each needs only what earlier ones returned."""
    config, judge = it.config, it.judge
    trained = it.stage("train", it.train)
    own = it.stage("parents", lambda _: _own_scores(it))
    aligned = it.stage(
        "match",
        lambda shown: align(
            judge, it.symmetry, it.networks, it.key, config.points, shown
        ),
    )
    ends = functools.partial(it.pair, aligned)
    permutation = functools.partial(permutation_of, aligned, it.symmetry)
    controls = it.stage(
        "controls",
        lambda shown: run_controls(judge, config.pairs, ends, config.points, shown),
    )
    cube = {}
    for number, cell in enumerate(CELLS):
        name = f"hypercube-{number}"
        checkpoint = it.folder / "checkpoints" / f"width-{it.width}.{name}"
        cube[cell.name] = it.stage(
            name,
            lambda shown, cell=cell, number=number, checkpoint=checkpoint: run_cell(
                cell,
                judge,
                it.symmetry,
                config.ring,
                ends,
                own,
                config.samples,
                config.batch,
                jax.random.fold_in(it.key, number),
                shown,
                checkpoint,
            ),
        )
    spoilt = it.stage(
        "robustness",
        lambda shown: run_robustness(
            judge,
            it.symmetry,
            config.ring,
            ends,
            permutation,
            own,
            config.fractions,
            config.points,
            it.key,
            shown,
        ),
    )
    result = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(it.networks[0])),
        "symmetry": str(it.symmetry),
        "networks": trained,
        "parents": own,
        "matching": aligned["matching"],
        "transitivity": aligned["transitivity"],
        "controls": controls,
        "hypercube": cube,
        "robustness": spoilt,
        "difference": it.stage(
            "difference",
            lambda shown: run_differences(judge, config.ring, ends, it.key, shown),
        ),
        "landscape": it.stage("landscape", lambda _: _landscape(it, ends)),
    }
    return result | {"claims": claims(result)}


def _own_scores(it: _Width) -> list[dict[str, float]]:
    scores = jax.jit(it.judge.scores)
    return [
        {metric: float(value) for metric, value in scores(variables).items()}
        for variables in it.networks
    ]


def _landscape(it: _Width, ends: Callable[[int, int], Any]) -> dict[str, Any]:
    aligned = [it.networks[0], ends(0, 1)[2], ends(0, 2)[2]]
    return planes(it.judge, it.networks[:3], aligned, it.config.resolution, it.key)
