"""Networks that are alike but for their seeds, trained together."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import training

Progress = Callable[[int, int], None]
Scaling = Callable[[], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Training:
    """How many networks are trained, and how long.

    Attributes:
      networks: How many.
      steps: Training steps.
      batch_size: Rows of a minibatch.
      learning_rate: At the start, of a cosine schedule.
      rows: Rows that losses are measured on while they train.
      seed: Networks of two seeds have no seed in common.
    """

    networks: int
    steps: int
    batch_size: int
    learning_rate: float
    rows: int = 1000
    seed: int = 0


def train_networks(
    asked: Training,
    task: training.Task,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    strategy: training.Strategy | None = None,
    scaling: Scaling = optax.scale_by_adam,
) -> tuple[list[Any], dict[str, list[float]]]:
    """Trains networks that are alike but for their seeds.

    Args:
      asked: How many, and how long.
      task: What is trained.
      progress: Called as `progress(done, total)`, in steps.
      checkpoint: A file for unfinished training.
      strategy: How they are advanced; by default the fastest, by timing.
      scaling: Makes the optimizer, all but its learning rate; by default Adam.

    Returns:
      Their variables; their final training, validation and test scores.
    """
    plan = training.Plan(
        steps=asked.steps,
        batch_size=asked.batch_size,
        evaluations=max(1, min(10, asked.steps // 50)),
        curve_rows=asked.rows,
        final_rows=10_000,
    )

    seeds = np.arange(asked.networks) + 1000 * asked.seed
    history = training.train(
        task,
        _Cosine(asked.steps, scaling),
        {"learning_rate": np.full(asked.networks, asked.learning_rate)},
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
