"""Trained networks from files: published ones, and those that a run has kept."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import training, weights
from benchmarks.networks._files import load_networks
from benchmarks.runs import RunError
from combinability._arrays_file import read_arrays


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
    return [jax.tree.map(jnp.asarray, variables) for variables in found]


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
