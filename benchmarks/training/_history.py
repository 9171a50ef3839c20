"""How long a training is, when it is looked at, and what was seen."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from benchmarks._ranges import check_counts


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a training is and when it is looked at.

    Args:
      steps: Optimizer steps.
      batch_size: Rows of a minibatch.
      evaluations: Number of evaluation points, evenly spaced, the last at the end.
      curve_rows: Rows, the first of each split, that the evaluation points look at.
      final_rows: Rows of the training data that the final training loss is a mean of;
        validation and test data are used whole at the end.
    """

    steps: int
    batch_size: int
    evaluations: int = 20
    curve_rows: int = 10_000
    final_rows: int = 10_000

    def __post_init__(self):
        check_counts(self, **{field.name: 1 for field in dataclasses.fields(self)})
        if self.evaluations > self.steps:
            raise ValueError(
                f"evaluations is {self.evaluations} but there are only {self.steps}"
                " steps: ask for fewer evaluations or more steps."
            )

    @property
    def points(self) -> tuple[int, ...]:
        """The steps after which the runs are evaluated."""
        count = self.evaluations
        return tuple(round((i + 1) * self.steps / count) for i in range(count))


@dataclasses.dataclass(frozen=True)
class History:
    """What happened to R runs at E evaluation points; losses are means in nats.

    Args:
      steps: Steps taken at each point.
      train_loss: On the first `curve_rows` training rows, in evaluation mode.
      train_batch_loss: Mean minibatch loss since the point before.
      validation_loss: On the first `curve_rows` validation rows.
      validation_accuracy: On the same rows.
      final_train_loss: At the end, on the first `final_rows` training rows.
      final_validation_loss: At the end, on all validation rows.
      final_validation_accuracy: At the end, on all validation rows.
      test_loss: At the end, on all test rows.
      test_accuracy: At the end, on all test rows.
      diverged: Whether a loss was not finite or training ended above its start.
      probes: What `probe` gave at each point.
      seconds_per_step: Seconds of one step of one run: the median over the intervals
        between points, compilation and evaluation excluded.
      strategy: How the runs were advanced.
      opt_state_bytes_per_parameter: Bytes of optimizer state for each parameter.
      variables: At the end, of each run.
    """

    steps: Int[np.ndarray, " E"]
    train_loss: Float[np.ndarray, "R E"]
    train_batch_loss: Float[np.ndarray, "R E"]
    validation_loss: Float[np.ndarray, "R E"]
    validation_accuracy: Float[np.ndarray, "R E"]
    final_train_loss: Float[np.ndarray, " R"]
    final_validation_loss: Float[np.ndarray, " R"]
    final_validation_accuracy: Float[np.ndarray, " R"]
    test_loss: Float[np.ndarray, " R"]
    test_accuracy: Float[np.ndarray, " R"]
    diverged: Bool[np.ndarray, " R"]
    probes: dict[str, np.ndarray]
    seconds_per_step: float
    strategy: str
    opt_state_bytes_per_parameter: float
    variables: list[Any]
