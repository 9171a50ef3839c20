"""How good networks are that were not trained here."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import training
from benchmarks.training._task import chunk_sums

_CHUNK = 500
_ROWS = 10_000


def scores_of(
    task: training.Task,
    networks: list[Any],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """The scores that `train_networks` gives, of networks that others have trained.

    Args:
      task: The network and its data.
      networks: The variables of each.
      progress: Called as `progress(done, total)`, in networks.

    Returns:
      "train_loss" (on the first 10,000 training rows), "test_loss" and
      "test_accuracy", a number for each network.
    """
    sums = jax.jit(chunk_sums, static_argnums=(0, 4, 5))

    def means(variables: Any, data: training.Data, rows: int) -> np.ndarray:
        chunks = [
            sums(task.module, variables, data, start, rows, _CHUNK)
            for start in range(0, rows, _CHUNK)
        ]
        return np.sum(np.asarray(chunks, float), axis=0) / rows

    found: dict[str, list[float]] = {
        name: [] for name in ("train_loss", "test_loss", "test_accuracy")
    }
    for done, variables in enumerate(networks):
        train = means(variables, task.train, min(_ROWS, len(task.train.inputs)))
        test = means(variables, task.test, len(task.test.inputs))
        for name, value in zip(found, (train[0], *test), strict=True):
            found[name].append(float(value))
        if progress:
            progress(done + 1, len(networks))
    return found
