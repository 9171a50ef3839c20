"""Which rows maps are fitted on, and which they are scored on."""

from typing import NamedTuple

import numpy as np

from benchmarks.networks import Data, Task
from benchmarks.stitching._config import Config
from benchmarks.stitching._layers import even


class Rows(NamedTuple):
    """Random rows, in whole batches.

    Attributes:
      fit: Training rows.
      test: Test rows.
      few_fit: The first of `fit`, where every layer meets every layer.
      few_test: The first of `test`, for the same.
    """

    fit: Data
    test: Data
    few_fit: Data
    few_test: Data


def choose_rows(config: Config, task: Task) -> Rows:
    """Rows of a task's training and test data, or as many as there are."""
    generator = np.random.default_rng(config.seed)

    def some(data: Data, count: int) -> Data:
        order = generator.permutation(len(data.inputs))[
            : even(min(count, len(data.inputs)))
        ]
        return Data(data.inputs[order], data.targets[order])

    def first(data: Data, count: int) -> Data:
        return Data(*(array[: even(min(count, len(array)))] for array in data))

    fit, test = some(task.train, config.fit_rows), some(task.test, config.test_rows)
    few = first(fit, config.cross_rows), first(test, config.cross_rows // 2)
    return Rows(fit, test, *few)
