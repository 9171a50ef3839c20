"""Losses and errors of variables on fixed rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import combinability
from benchmarks.models import Network
from benchmarks.networks import Data, Task, row_scores

Scores = dict[str, jax.Array]

# Temperatures that logits are divided by, to find the best one.
TEMPERATURES = np.geomspace(0.05, 5.0, 41)


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """Mean losses (nats) and errors (fractions) on fixed training and test rows.

    Attributes:
      network: The architecture.
      train: Training rows that losses are measured on.
      test: Test rows.
      calibration: Other training rows, for REPAIR, statistics and temperatures.
    """

    network: Network
    train: Data
    test: Data
    calibration: Data

    def scores(self, variables: Any) -> Scores:
        """Return "train_loss", "train_error", "test_loss" and "test_error"."""
        return self._scores(lambda inputs: self.network.apply(variables, inputs))

    def tempered(self, variables: Any) -> Scores:
        """Return the same with the temperature that is best on the calibration rows."""
        logits = self.network.apply(variables, self.calibration.inputs)
        temperatures = jnp.asarray(TEMPERATURES, logits.dtype)
        losses = jax.vmap(
            lambda t: row_scores(logits / t, self.calibration.targets)[0].mean()
        )(temperatures)
        best = temperatures[jnp.argmin(losses)]
        return self._scores(lambda inputs: self.network.apply(variables, inputs) / best)

    def repaired(self, variables: Any, a: Any, b: Any) -> Scores:
        """Return the same after REPAIR, or with BatchNorm's statistics reset.

        Args:
          variables: A combination of `a` and `b`.
          a: The first network.
          b: The second one, aligned.
        """
        apply, rows = self.network.apply, self.calibration.inputs
        if "batch_stats" in a:
            return self.scores(
                combinability.reset_batch_norm(self._training, variables, rows[None])
            )
        found = combinability.repair(apply, variables, a, b, rows)
        corrected = combinability.corrected(apply, found)
        return self._scores(lambda inputs: corrected(variables, inputs))

    def _training(self, variables: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        return self.network.train(variables, inputs, jax.random.key(0))

    def _scores(self, logits: Callable[[jax.Array], jax.Array]) -> Scores:
        found = {}
        for name, data in (("train", self.train), ("test", self.test)):
            losses, hits = row_scores(logits(data.inputs), data.targets)
            found[f"{name}_loss"] = losses.mean()
            found[f"{name}_error"] = 1.0 - hits.mean()
        return found


def make_metrics(task: Task, rows: int, calibration: int, seed: int) -> Metrics:
    """Return metrics on random rows of a task's training and test data.

    Args:
      task: The network and its data.
      rows: Rows of each, or as many as there are.
      calibration: Training rows besides, none of which losses are measured on.
      seed: Which rows.

    Raises:
      ValueError: If there are too few training rows for both.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(task.train.inputs))
    if calibration >= len(order):
        raise ValueError(
            f"calibration: expected fewer than the {len(order)} training rows of "
            f"{task.name}, some of which losses are measured on, got {calibration}"
        )
    measured = order[calibration : calibration + rows]
    tested = generator.permutation(len(task.test.inputs))[:rows]

    def taken(data: Data, indices: np.ndarray) -> Data:
        return Data(data.inputs[indices], data.targets[indices])

    return Metrics(
        task.network,
        taken(task.train, measured),
        taken(task.test, tested),
        taken(task.train, order[:calibration]),
    )
