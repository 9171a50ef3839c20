"""What is trained: a Linen module, its loss, and its data on the device."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

# Rows evaluated by one compiled call: it bounds the memory of an evaluation.
CHUNK = 1000


class Data(NamedTuple):
    """A split on the device."""

    inputs: jax.Array
    targets: jax.Array


class Score(NamedTuple):
    """A mean loss and a mean accuracy; leading axes are runs."""

    loss: np.ndarray
    accuracy: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A network to train and the data it is trained and judged on.

    Args:
      name: The dataset's name.
      module: A Linen module with `apply(variables, inputs, train) -> logits`.
      train: The training data.
      validation: The data that hyper-parameters are chosen on.
      test: The data that is looked at last.
    """

    name: str
    module: nn.Module
    train: Data
    validation: Data
    test: Data

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Returns fresh variables: "params", and running statistics if any."""
        return init(self.module, key, self.train.inputs[:1])

    def loss(self, variables: dict[str, Any], data: Data) -> jax.Array:
        """Returns the mean cross-entropy of `data`, in evaluation mode."""
        return jnp.mean(row_scores(self.module, variables, data)[0])


def make_task(dataset, module: nn.Module) -> Task:
    """Puts a dataset on the device beside the module that will learn it.

    Args:
      dataset: A `benchmarks.data.Dataset` (or anything with its fields).
      module: A Linen module, as `benchmarks.models.build` makes.

    Returns:
      The task.

    Raises:
      ValueError: If a split has no rows, or not as many inputs as targets.
    """
    splits = {}
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        rows, targets = len(split.inputs), len(split.targets)
        if rows == 0 or rows != targets:
            raise ValueError(
                f"dataset.{name} has {rows} inputs and {targets} targets: expected"
                " as many of one as of the other, and at least one. Load it again."
            )
        splits[name] = Data(jnp.asarray(split.inputs), jnp.asarray(split.targets))
    return Task(name=dataset.name, module=module, **splits)


def check_batch(task: Task, batch_size: int) -> None:
    """Refuses a minibatch that is larger than the training data.

    Raises:
      ValueError: If it is.
    """
    rows = len(task.train.inputs)
    if batch_size > rows:
        raise ValueError(
            f"batch_size is {batch_size} but {task.name} has {rows} training rows:"
            " use a smaller minibatch."
        )


def init(module: nn.Module, key: jax.Array, example: jax.Array) -> dict[str, Any]:
    """Returns the module's fresh variables."""
    return dict(module.init(key, example, train=False))


def batch_loss(
    module: nn.Module, params: Any, statistics: dict[str, Any], data: Data
) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the mean loss of a minibatch and the new running statistics."""
    variables = {"params": params, **statistics}
    outputs: Any = module.apply(
        variables, data.inputs, train=True, mutable=list(statistics)
    )
    logits, updated = outputs
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.targets)
    return jnp.mean(losses), dict(updated)


def row_scores(
    module: nn.Module, variables: dict[str, Any], data: Data
) -> tuple[jax.Array, jax.Array]:
    """Returns loss and accuracy of every row (of a text: means over positions)."""
    logits: Any = module.apply(variables, data.inputs, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.targets)
    hits = (jnp.argmax(logits, axis=-1) == data.targets).astype(losses.dtype)
    rows = len(data.inputs)
    return losses.reshape(rows, -1).mean(1), hits.reshape(rows, -1).mean(1)


def chunk_sums(
    module: nn.Module,
    variables: dict[str, Any],
    data: Data,
    start: jax.Array | int,
    stop: int,
    size: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns the sums of loss and accuracy over rows `start` to at most `stop`.

    Every chunk has `size` rows, so that one compilation serves them all; rows past
    the end are repeats of the last and count for nothing.
    """
    rows = start + jnp.arange(size)
    taken = Data(*(jnp.take(x, rows, axis=0, mode="clip") for x in data))
    losses, hits = row_scores(module, variables, taken)
    counts = rows < stop
    return jnp.sum(jnp.where(counts, losses, 0.0)), jnp.sum(
        jnp.where(counts, hits, 0.0)
    )
