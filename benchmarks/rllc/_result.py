"""The result of a comparison of optimizers, as `result.json` holds it.

Losses are mean cross entropies in nats; accuracies and errors are fractions in [0, 1].
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from benchmarks import runs
from benchmarks.runs import Number, Record

PerSeed = Float64[np.ndarray, " seed"]
Curve = Float64[np.ndarray, "seed point"]


class Tried(Record):
    """Hyper-parameters that were tried.

    Attributes:
      hyper: Their values by name.
      diverged: Whether a loss was not finite, or training ended above its start.
    """

    hyper: dict[str, Any]
    diverged: bool


class Trial(Tried):
    """Hyper-parameters that were tried, and the final losses that they led to."""

    train_loss: Number
    validation_loss: Number
    validation_accuracy: Number


class Tuned(Record):
    """How a method was tuned.

    Attributes:
      space: By hyper-parameter [low, high, "log" or "linear"], or a fixed value.
      selected: The hyper-parameters of the trial with the lowest validation loss.
      at_border: Whether its learning rate is the lowest or highest that was tried.
      learned_law: Law of the selected trial, its mean over the second half of training,
        a coefficient per memory unit; None for a method that learns none.
      seeds: Fresh seeds, the same for every method, so that runs are paired.
      diverged: For each of these seeds.
    """

    space: dict[str, Any]
    selected: dict[str, Any]
    at_border: bool
    learned_law: Float64[np.ndarray, " unit"] | None
    seeds: list[int]
    diverged: list[bool]


class Curves(Record):
    """Learning curves of the fresh seeds.

    Attributes:
      steps: Steps taken at each point.
      train_loss: Evaluated on training rows.
      validation_loss: Evaluated on validation rows.
      validation_accuracy: Of the same rows; None in older results.
      seconds: Training time of one run up to each point, mean over the runs; None where
        runs were trained together, and in older results.
    """

    steps: list[int]
    train_loss: Curve
    validation_loss: Curve
    validation_accuracy: Curve | None = None
    seconds: Float64[np.ndarray, " point"] | None = None


class Law(Record):
    """How a learned law evolved.

    Attributes:
      steps: Steps taken at each point.
      law: Coefficients.
      gain: Gain of the law.
      response: Entry j is the weight of the gradient of j steps ago in the final
        update, averaged over the seeds.
    """

    steps: list[int]
    law: Float64[np.ndarray, "seed point unit"]
    gain: Curve
    response: Float64[np.ndarray, " age"]


class Method(Tuned):
    """A method under one schedule: tuned, then measured on fresh seeds.

    Attributes:
      trials: What was tried.
      train_loss: Final losses and accuracies of each fresh seed.
      curves: Learning curves.
      law: How the law evolved; None for a method that learns none.
      seconds_per_step: Of one run; median, compilation and evaluation excluded.
      bytes_per_parameter: Size of the optimizer's state.
      steps_to_target: First point at which the training loss reaches the target of the
        schedule; None where it never does.
    """

    trials: list[Trial]
    train_loss: PerSeed
    validation_loss: PerSeed
    validation_accuracy: PerSeed
    test_loss: PerSeed
    test_accuracy: PerSeed
    curves: Curves
    law: Law | None
    seconds_per_step: Number
    bytes_per_parameter: Number
    steps_to_target: list[int | None]


class Comparison(Record):
    """Paired difference of two methods: `method` minus `against`, over seeds.

    Attributes:
      schedule: "constant" or "cosine".
      metric: "train_loss", "validation_loss", "validation_error" (one minus the
        accuracy), or "log10_loss" of a problem: smaller is better.
      method: A method that learns its law.
      against: A method that does not.
      mean_difference: Negative if `method` is better.
      low: Lower end of its 95 % t interval.
      high: Upper end.
      better: How many pairs favour `method`.
      pairs: Pairs in which both values are finite.
    """

    schedule: str
    metric: str
    method: str
    against: str
    mean_difference: Number
    low: Number
    high: Number
    better: int
    pairs: int


class ProblemTrial(Tried):
    """Hyper-parameters that were tried on a deterministic problem."""

    log10_loss: Number


class ProblemMethod(Tuned):
    """A method on a deterministic problem; seeds are starting points.

    Attributes:
      trials: What was tried.
      log10_loss: Logarithm of the final loss of each seed.
    """

    trials: list[ProblemTrial]
    log10_loss: PerSeed


class Problem(Record):
    """A deterministic problem.

    Attributes:
      steps: Steps of each run.
      methods: By name.
      comparisons: Of the logarithms of final losses.
    """

    steps: int
    methods: dict[str, ProblemMethod]
    comparisons: list[Comparison]


class Result(runs.Result):
    """A comparison of optimizers.

    Attributes:
      methods: By method and schedule: `methods["adam"]["cosine"]`.
      targets: By schedule, the training loss that counts as reached: 5 % above the
        lowest median of the baselines.
      comparisons: Of every method that learns its law with every one that does not.
      problems: Deterministic problems by name, if any were asked for.
    """

    methods: dict[str, dict[str, Method]]
    targets: dict[str, Number]
    comparisons: list[Comparison]
    problems: dict[str, Problem]
