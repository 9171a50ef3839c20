"""The networks that are combined: trained once, kept in the run folder."""

import dataclasses
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np
import optax

from benchmarks import models, training
from benchmarks._precision import module_dtype
from benchmarks.combinability._config import Config
from benchmarks.runs import RunError, write_atomically
from combinability._arrays_file import read_arrays

Progress = Callable[[int, int], None]
Scaling = Callable[[], optax.GradientTransformation]


class Training(Protocol):
    """How many networks are trained, and how long; a `Config` says it."""

    @property
    def networks(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def seed(self) -> int: ...


def network(config: Config, width: int, classes: int) -> nn.Module:
    """The module of one width."""
    dtype = module_dtype(config.dtype)
    if config.model == "mlp":
        return models.MLP(classes, features=(width,) * 3, dtype=dtype)
    norm = "layer" if config.model == "resnet20_layernorm" else "batch"
    return models.ResNet(classes, width=width, norm=norm, dtype=dtype)


def train_networks(
    config: Training,
    task: training.Task,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    strategy: training.Strategy | None = None,
    scaling: Scaling = optax.scale_by_adam,
) -> tuple[list[Any], dict[str, list[float]]]:
    """Trains the networks of one width, alike but for their seeds.

    Args:
      config: How many, and how long.
      task: What is trained.
      progress: Called as `progress(done, total)`, in steps.
      checkpoint: A file for unfinished training.
      strategy: How they are advanced; by default the fastest, by timing.
      scaling: Makes the optimizer, all but its learning rate; by default Adam.

    Returns:
      Their variables; their final training, validation and test scores.
    """
    plan = training.Plan(
        steps=config.steps,
        batch_size=config.batch_size,
        evaluations=max(1, min(10, config.steps // 50)),
        curve_rows=config.rows,
        final_rows=10_000,
    )

    seeds = np.arange(config.networks) + 1000 * config.seed
    history = training.train(
        task,
        _Cosine(config.steps, scaling),
        {"learning_rate": np.full(config.networks, config.learning_rate)},
        seeds,
        plan,
        progress=progress,
        checkpoint=checkpoint,
        strategy=strategy,
    )
    scores = {
        "train_loss": history.final_train_loss.tolist(),
        "validation_loss": history.final_validation_loss.tolist(),
        "test_loss": history.test_loss.tolist(),
        "test_accuracy": history.test_accuracy.tolist(),
    }
    return history.variables, scores


@dataclasses.dataclass(frozen=True)
class _Cosine:
    """A cosine schedule to zero; equal for equal attributes, so compiled once."""

    steps: int
    scaling: Scaling

    def __call__(self, hyper: dict[str, jax.Array]) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(1.0, self.steps)
        return optax.chain(
            self.scaling(),
            optax.scale_by_schedule(rate),
            optax.scale(-1.0 * hyper["learning_rate"]),
        )


def save_networks(path: Path, networks: list[Any]) -> None:
    """Writes the variables of networks of one structure, whole or not at all."""
    arrays = {
        f"{number}/{place}": np.asarray(leaf)
        for number, variables in enumerate(networks)
        for place, leaf in enumerate(jax.tree.leaves(variables))
    }
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomically(path, file.getvalue())


def load_networks(path: Path, like: Any, count: int) -> list[Any]:
    """Reads what `save_networks` wrote.

    Args:
      path: The file.
      like: Variables of the structure and shapes that are expected.
      count: How many networks.

    Returns:
      The variables of each network.

    Raises:
      RunError: If the file is missing, damaged or of other networks.
    """
    leaves, structure = jax.tree.flatten(like)
    try:
        stored = read_arrays(path)
        found = [
            [stored[f"{number}/{place}"] for place in range(len(leaves))]
            for number in range(count)
        ]
    except (ValueError, KeyError) as error:
        raise RunError(
            f"cannot read the networks in {path}: {error}; delete this run folder and "
            "give the command again"
        ) from error
    for network_leaves in found:
        for leaf, expected in zip(network_leaves, leaves, strict=True):
            found_here = (leaf.shape, leaf.dtype)
            if found_here != (expected.shape, expected.dtype):
                raise RunError(
                    f"{path} holds an array of shape {leaf.shape} and dtype "
                    f"{leaf.dtype} where the model has {expected.shape} and "
                    f"{expected.dtype}; delete this run folder and start again"
                )
    return [jax.tree.unflatten(structure, arrays) for arrays in found]
