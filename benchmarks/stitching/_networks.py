"""The networks that are stitched, where they are trained here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.networks import (
    Task,
    Training,
    load_networks,
    save_networks,
    train_networks,
)
from benchmarks.stitching._config import Config

Progress = Callable[[int, int], None]


def train_and_save(
    config: Config,
    task: Task,
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Trains the networks of an experiment and keeps them in its folder."""
    asked = Training(
        config.networks,
        config.training_steps,
        config.training_batch_size,
        config.training_learning_rate,
        seed=config.seed,
    )
    checkpoint = folder / "checkpoints" / "train"
    variables, _ = train_networks(asked, task, progress, checkpoint)
    save_networks(_kept(folder), variables)


def kept_networks(task: Task, folder: Path, count: int) -> list[Any]:
    """The networks that `train_and_save` kept."""
    like = jax.eval_shape(task.init, jax.random.key(0))
    found = load_networks(_kept(folder), like, count)
    return [jax.tree.map(jnp.asarray, variables) for variables in found]


def _kept(folder: Path) -> Path:
    return folder / "networks" / "trained.npz"
