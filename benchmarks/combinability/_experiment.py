"""The experiment: networks of each width are trained, matched and combined."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import data
from benchmarks._precision import computed_in
from benchmarks.combinability import _studies
from benchmarks.combinability._claims import claims
from benchmarks.combinability._config import Config
from benchmarks.combinability._metrics import make_metrics
from benchmarks.combinability._result import Result
from benchmarks.intervals import Pair
from benchmarks.networks import (
    Task,
    Training,
    check_options,
    load_networks,
    make_task,
    model_of,
    read_networks,
    save_networks,
    scores_of,
    train_networks,
)
from benchmarks.runs import Progress, Run


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    model: Any = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> Result:
    """Train or read networks of each width, match them, and combine them.

    Args:
      config: What to train and how much to evaluate.
      dataset: A dataset in place of the one that the configuration names.
      model: A network in its place, of one width: what `benchmarks.models.network`
        accepts.
      folder: The run folder, in which an interrupted run continues.
      progress: Informed of stages.
      data_directory: Where datasets are, and weights that are not found from here.

    Raises:
      ValueError: If the dataset does not suit the model or has too few rows, or there
        are too few networks.
      RunError: If a file of weights cannot be used.
    """
    check_options(config, dataset, model, data_directory)
    here = Run("combinability", config, folder, progress)
    widths = config.chosen_widths if model is None else (1,)
    here.expect(len(widths) * (7 + len(_studies.CELLS)))
    if dataset is None:
        dataset = data.load(config.dataset, data_directory)
    found = {}
    with computed_in(config.precision):
        for width in widths:
            chosen = model_of(config, width, dataset) if model is None else model
            task = make_task(dataset, chosen)
            found[str(width)] = _run_width(config, here, task, width, data_directory)
    return here.finish(Result, widths=found)


def _run_width(
    config: Config, here: Run, task: Task, width: int, data_directory: Any
) -> dict[str, Any]:
    """Return the fields of a `Width`."""

    def stage(name: str, compute: Callable[[], Any]) -> Any:
        return here.stage(f"width-{width}.{name}", compute)

    metrics = make_metrics(task, config.rows, config.calibration, config.seed)
    variables, trained = _networks(config, here, task, width, data_directory)
    pairs = list(itertools.combinations(range(len(variables)), 2))
    neighbours = ring(len(variables))
    key = jax.random.fold_in(jax.random.key(config.seed), width)
    scores = stage("parents", lambda: _studies.scores(metrics, variables))
    networks = _studies.Networks(metrics, variables, scores, key)
    advance, points = here.advance, config.points

    matched = stage("match", lambda: _studies.match(networks, points, advance))
    for number, (i, j) in enumerate(matched["matching"]["pairs"]):
        found = matched["permutations"].items()
        indices = {group: jnp.asarray(index[number]) for group, index in found}
        networks.permutations[i, j] = indices

    def combined(number: int, cell: _studies.Cell) -> Any:
        drawn, samples = jax.random.fold_in(key, number), config.samples
        return _studies.combine(
            networks, neighbours, cell, samples, drawn, advance, here.checkpoint
        )

    result = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables[0])),
        "symmetry": str(networks.symmetry),
        "networks": trained,
        "parents": scores,
        "matching": matched["matching"],
        "transitivity": matched["transitivity"],
        "controls": stage(
            "controls", lambda: _studies.controls(networks, pairs, points, advance)
        ),
        "hypercube": {
            cell.name: stage(
                f"hypercube-{number}", lambda n=number, c=cell: combined(n, c)
            )
            for number, cell in enumerate(_studies.CELLS)
        },
        "robustness": stage(
            "robustness",
            lambda: _studies.robustness(
                networks, neighbours, config.fractions, points, advance
            ),
        ),
        "difference": stage(
            "difference", lambda: _studies.difference(networks, neighbours, advance)
        ),
        "landscape": stage(
            "landscape", lambda: _studies.landscape(networks, config.resolution)
        ),
    }
    return result | {"claims": claims(result)}


def _networks(
    config: Config, here: Run, task: Task, width: int, data_directory: Any
) -> tuple[list[Any], dict[str, Any]]:
    """Read or train the networks of one width; return variables and scores."""
    name = f"width-{width}.train"
    if config.weights:
        given = read_networks(
            config.weights, task, data_directory, config.weights_mapping
        )
        _check_count("weights", len(given))
        return given, here.stage(name, lambda: scores_of(task, given, here.advance))
    _check_count("networks", config.networks)
    file = here.folder / "networks" / f"width-{width}.npz"

    def train() -> dict[str, Any]:
        variables, scores = train_networks(
            training_of(config), task, here.advance, here.checkpoint()
        )
        save_networks(file, variables)
        return scores

    trained = here.stage(name, train)
    like = jax.eval_shape(task.init, jax.random.key(0))
    found = load_networks(file, like, config.networks)
    return [jax.tree.map(jnp.asarray, variables) for variables in found], trained


def _check_count(name: str, count: int) -> None:
    if count < 3:
        raise ValueError(
            f"{name}: expected at least 3 networks, as transitivity needs a third, got "
            f"{count}"
        )


def training_of(config: Config) -> Training:
    """Return how the networks of one width are trained."""
    return Training(
        config.networks,
        config.steps,
        config.batch_size,
        config.learning_rate,
        config.rows,
        config.seed,
        config.weight_decay,
    )


def ring(count: int) -> list[Pair]:
    """Return as many pairs as networks, each network in two of them."""
    pairs = [(i, (i + 1) % count) for i in range(count)]
    return sorted({(min(pair), max(pair)) for pair in pairs})
