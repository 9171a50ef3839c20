"""The networks that are stitched: read from files, or trained."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import data, models, training, weights
from benchmarks.networks import (
    Training,
    load_networks,
    save_networks,
    train_networks,
)
from benchmarks.runs import RunError
from benchmarks.stitching._config import Config
from combinability._arrays_file import read_arrays

Progress = Callable[[int, int], None]


def network(config: Config, dataset: data.Dataset) -> nn.Module:
    """The module that all networks are variables of."""
    if config.width is None:
        return models.build(config.model, dataset)
    if config.model == "mlp":
        return models.MLP(dataset.classes, features=(config.width,) * 3)
    norm = "layer" if config.model == "resnet20_layernorm" else "batch"
    return models.ResNet(dataset.classes, width=config.width, norm=norm)


def train_and_save(
    config: Config,
    task: training.Task,
    folder: Path,
    progress: Progress | None = None,
    strategy: training.Strategy | None = None,
) -> None:
    """Trains the networks of an experiment and keeps them in its folder."""
    asked = Training(
        config.networks,
        config.training_steps,
        config.training_batch_size,
        config.training_learning_rate,
        seed=config.seed,
    )
    checkpoint = folder / "checkpoints" / "train.npz"
    variables, _ = train_networks(asked, task, progress, checkpoint, strategy)
    save_networks(_kept(folder), variables)


def kept_networks(task: training.Task, folder: Path, count: int) -> list[Any]:
    """The networks that `train_and_save` kept."""
    like = jax.eval_shape(task.init, jax.random.key(0))
    return _on_device(load_networks(_kept(folder), like, count))


def _kept(folder: Path) -> Path:
    return folder / "networks" / "trained.npz"


def read_networks(
    paths: Sequence[str],
    task: training.Task,
    data_directory: str | os.PathLike[str] | None = None,
) -> list[Any]:
    """The variables of trained networks, from files.

    Args:
      paths: Of published networks, one each, or of several that a run has kept.
      task: The network that they are of.
      data_directory: Where relative paths are looked for that are not here.

    Returns:
      The variables of every network, in order.

    Raises:
      RunError: If a file is missing, damaged or of other networks.
    """
    like = jax.eval_shape(task.init, jax.random.key(0))
    example = jax.ShapeDtypeStruct(task.train.inputs[:1].shape, "float32")
    found: list[Any] = []
    for name in paths:
        path = _found(name, data_directory)
        count = _kept_by_a_run(path)
        if count:
            found += load_networks(path, like, count)
        else:
            found.append(weights.load(path, task.module, example))
    return _on_device(found)


def _found(name: str, data_directory: str | os.PathLike[str] | None) -> Path:
    here = Path(name).expanduser()
    places = [here]
    chosen = data_directory or os.environ.get("BENCHMARKS_DATA")
    if chosen:
        places.append(Path(chosen).expanduser() / name)
    for place in places:
        if place.is_file():
            return place
    raise RunError(
        f"weights: there is no file {' nor '.join(map(str, places))}; give paths from "
        "here or from the data folder"
    )


def _kept_by_a_run(path: Path) -> int:
    """How many networks a run has kept in a file; 0 if it is of another kind."""
    if path.suffix != ".npz":
        return 0
    try:
        numbers = [name.split("/")[0] for name in read_arrays(path)]
    except ValueError:
        return 0  # the reader of published networks says what is wrong with it
    if not all(number.isdecimal() for number in numbers):
        return 0
    return 1 + max(map(int, numbers), default=-1)


def _on_device(networks: list[Any]) -> list[Any]:
    return [jax.tree.map(jnp.asarray, variables) for variables in networks]
