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
    """Hyper-parameters that were tried."""

    hyper: dict[str, Any]  # values by name
    diverged: bool  # a loss was not finite, or training ended above its start


class Trial(Tried):
    """Hyper-parameters that were tried, and the final losses that they led to."""

    train_loss: Number
    validation_loss: Number
    validation_accuracy: Number


class Tuned(Record):
    """How a method was tuned."""

    # By hyper-parameter [low, high, "log" or "linear"], or a fixed value.
    space: dict[str, Any]
    selected: dict[str, Any]  # of the trial with the lowest validation loss
    at_border: bool  # its learning rate is the lowest or highest that was tried
    # Law of the selected trial, its mean over the second half of training, one
    # coefficient per memory unit; None for a method that learns none.
    learned_law: Float64[np.ndarray, " unit"] | None
    seeds: list[int]  # fresh ones, the same for every method, so that runs are paired
    diverged: list[bool]  # for each of these seeds


class Curves(Record):
    """Learning curves of the fresh seeds."""

    steps: list[int]  # taken at each point
    train_loss: Curve  # evaluated on training rows
    validation_loss: Curve  # evaluated on validation rows
    validation_accuracy: Curve | None = None  # of the same rows; None in older results
    # Training time of one run up to each point, mean over the runs; None where runs
    # were trained together, and in older results.
    seconds: Float64[np.ndarray, " point"] | None = None


class Memory(Record):
    """A linear memory: M becomes M A + g bᵀ, for the gradient g."""

    propagator: Float64[np.ndarray, "unit unit"]  # A
    input: Float64[np.ndarray, " unit"]  # b


class Law(Record):
    """How a learned law evolved."""

    steps: list[int]  # taken at each point
    law: Float64[np.ndarray, "seed point unit"]
    gain: Curve
    # Entry j is the weight of the gradient of j steps ago in the final update, averaged
    # over the seeds; None where the memory is not linear.
    response: Float64[np.ndarray, " age"] | None
    memory: Memory | None = None  # if it is linear; None in older results


class Method(Tuned):
    """A method under one schedule: tuned, then measured on fresh seeds."""

    trials: list[Trial]  # what was tried
    train_loss: PerSeed  # final losses and accuracies of each fresh seed
    validation_loss: PerSeed
    validation_accuracy: PerSeed
    test_loss: PerSeed
    test_accuracy: PerSeed
    curves: Curves
    law: Law | None  # None for a method that learns none
    seconds_per_step: Number  # of one run; without compilation and evaluation
    bytes_per_parameter: Number  # size of the optimizer's state
    # First point at which the training loss reaches the target of the schedule; None
    # where it never does.
    steps_to_target: list[int | None]


class Comparison(Record):
    """Paired difference of two methods: `method` minus `against`, over seeds."""

    schedule: str  # "constant", "cosine" or "warmup_stable_decay"
    # "train_loss", "validation_loss", "validation_error" (one minus the accuracy), or
    # "log10_loss" of a problem: smaller is better.
    metric: str
    method: str  # a method that learns its law, or your own
    against: str
    mean_difference: Number  # negative if `method` is better
    low: Number  # of its 95 % t interval
    high: Number
    better: int  # how many pairs favour `method`
    pairs: int  # in which both values are finite


class ProblemTrial(Tried):
    """Hyper-parameters that were tried on a deterministic problem."""

    log10_loss: Number


class ProblemMethod(Tuned):
    """A method on a deterministic problem; seeds are starting points."""

    trials: list[ProblemTrial]  # what was tried
    log10_loss: PerSeed  # logarithm of the final loss of each seed


class Problem(Record):
    """A deterministic problem."""

    steps: int  # of each run
    methods: dict[str, ProblemMethod]
    comparisons: list[Comparison]  # of the logarithms of final losses


class Result(runs.Result):
    """A comparison of optimizers."""

    methods: dict[str, dict[str, Method]]  # by name and schedule
    # By schedule, the training loss that counts as reached: 5 % above the lowest median
    # of the baselines.
    targets: dict[str, Number]
    # Of every method that learns its law, and your own, with every one that does not.
    comparisons: list[Comparison]
    problems: dict[str, Problem]  # deterministic ones, if any were asked for
