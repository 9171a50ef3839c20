"""How a combination is judged: mean loss and error on fixed rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import combinability
from benchmarks.networks import Data, Task

Scores = dict[str, jax.Array]
# Temperatures that logits are divided by, to find the best one.
TEMPERATURES = np.geomspace(0.05, 5.0, 41)


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Judges variables of one architecture on fixed training and test rows.

    Attributes:
      module: The architecture.
      train: Training rows that losses are measured on.
      test: Test rows.
      calibration: Other training rows, for REPAIR, statistics and temperatures.
    """

    module: nn.Module
    train: Data
    test: Data
    calibration: Data

    def apply(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """Logits in evaluation mode."""
        return self.module.apply(variables, inputs, train=False)  # pyright: ignore

    def scores(self, variables: Any) -> Scores:
        """Mean losses in nats and errors in [0, 1]."""
        return self._scores(lambda inputs: self.apply(variables, inputs))

    def tempered(self, variables: Any) -> Scores:
        """The same with logits divided by the temperature that calibration favours."""
        logits = self.apply(variables, self.calibration.inputs)
        losses = jax.vmap(lambda t: _loss(logits / t, self.calibration.targets))(
            jnp.asarray(TEMPERATURES, logits.dtype)
        )
        best = jnp.asarray(TEMPERATURES, logits.dtype)[jnp.argmin(losses)]
        return self._scores(lambda inputs: self.apply(variables, inputs) / best)

    def repaired(self, a: Any, b: Any) -> Callable[[Any], Scores]:
        """The same after REPAIR, or with BatchNorm's statistics reset."""
        if "batch_stats" in a:
            return lambda variables: self.scores(self._reset(variables))
        rows = self.calibration.inputs

        def scores(variables: Any) -> Scores:
            found = combinability.repair(self.apply, variables, a, b, rows)
            apply = combinability.corrected(self.apply, found)
            return self._scores(lambda inputs: apply(variables, inputs))

        return scores

    def _reset(self, variables: Any) -> Any:
        def in_training(variables, inputs):
            return self.module.apply(
                variables, inputs, train=True, mutable=["batch_stats"]
            )

        batches = self.calibration.inputs[None]
        return combinability.reset_batch_norm(in_training, variables, batches)

    def _scores(self, logits: Callable[[jax.Array], jax.Array]) -> Scores:
        found = {}
        for name, data in (("train", self.train), ("test", self.test)):
            outputs = logits(data.inputs)
            wrong = jnp.argmax(outputs, -1) != data.targets
            found[f"{name}_loss"] = _loss(outputs, data.targets)
            found[f"{name}_error"] = jnp.mean(wrong.astype(jnp.float32))
        return found


def _loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.mean(losses)


def make_judge(task: Task, rows: int, calibration: int, seed: int) -> Judge:
    """A judge on random rows of a task's training and test data.

    Args:
      task: The network and its data.
      rows: Rows of each, or as many as there are.
      calibration: Training rows besides, none of which losses are measured on.
      seed: Which rows.

    Returns:
      The judge.

    Raises:
      ValueError: If there are too few training rows for both.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(task.train.inputs))
    if calibration >= len(order):
        raise ValueError(
            f"calibration is {calibration}, but {task.name} has {len(order)} training "
            "rows: leave some to measure losses on"
        )
    held = order[:calibration]
    measured = order[calibration : calibration + rows]
    tested = generator.permutation(len(task.test.inputs))[:rows]

    def taken(data: Data, indices: np.ndarray) -> Data:
        return Data(data.inputs[indices], data.targets[indices])

    return Judge(
        task.module,
        taken(task.train, measured),
        taken(task.test, tested),
        taken(task.train, held),
    )
