"""Results of measurements of speed, as `result.json` holds them.

Times are medians over rounds, in seconds; ratios of times are taken round by round.
Optional fields are left out of JSON where they were not measured.
"""

from benchmarks import runs
from benchmarks.runs import Number, Record


class Ratio(Record):
    """The median of a ratio over rounds, with quartiles."""

    median: Number
    low: Number
    high: Number


class Step(Record):
    """One optimizer's step.

    Attributes:
      seconds: Of one step; parameters and state are donated.
      ratio: Of the time to the baseline's.
      floor_seconds: What the step's memory traffic takes at the speed of a copy.
      temporary_share: Bytes besides arguments and results, as the compiler plans them,
        relative to those of the parameters.
    """

    seconds: Number
    ratio: Ratio
    floor_seconds: Number
    temporary_share: Number


class OptimizerResult(runs.Result):
    """Speed of optimizers, by name; a copy reads and writes every parameter."""

    parameters: int
    copy_bytes_per_second: Number
    baseline: str
    steps: dict[str, Step]


class MatchingTime(Record):
    """One implementation of weight matching; `ratio` of its time to the baseline's."""

    seconds: Number
    ratio: Ratio
    objective: Number
    recovered: Number


class MatchingWidth(Record):
    """Matching of networks of one width, by implementation."""

    parameters: int
    matching: dict[str, MatchingTime]


class Matching(Record):
    """Speed of weight matching, by width."""

    baseline: str
    widths: dict[str, MatchingWidth]


class LargeMatching(Record):
    """One matching of two networks with random weights.

    Attributes:
      cpu_seconds: Of all threads.
      gigabytes: The peak memory of the process so far.
    """

    parameters: int
    groups: int
    seconds: Number
    cpu_seconds: Number
    gigabytes: Number
    sweeps: int
    objective: Number


class CombinationCase(Record):
    """Combining one network on some images.

    Attributes:
      first_seconds: Of first calls, which trace and compile, by program: `evaluate`,
        and `map` and `loop`, which are written by hand.
      first_ratio: Of the time of `evaluate` to that of `map`.
      seconds: Of later calls, by number of samples.
      to_map: Ratio of the time of `evaluate` to that of `map`, likewise.
      to_loop: To that of `loop`.
    """

    images: int
    first_seconds: dict[str, Number]
    first_ratio: Ratio
    seconds: dict[str, dict[str, Number]]
    to_map: dict[str, Ratio]
    to_loop: dict[str, Ratio]


class Combinations(Record):
    """Speed of combining, by network."""

    cases: dict[str, CombinationCase]


class CombinabilityResult(runs.Result, omit_defaults=True):
    """Speed of matching and combining."""

    matching: Matching
    combinations: Combinations
    large: dict[str, LargeMatching] | None = None


class TaskLossLayer(Record, omit_defaults=True):
    """Task-loss matching at one layer.

    Attributes:
      front_seconds: Network `a`'s activations of all images, once.
      images: How many.
      samples_per_second: By implementation.
      speedup: Time of the baseline to that of one map.
      many: Time of eight maps at once to eight times one.
      difference: Of the losses of all implementations, relative.
      by_hand: Time of one map to that of a loop by hand.
    """

    front_seconds: Number
    images: int
    samples_per_second: dict[str, Number]
    speedup: Ratio
    many: Ratio
    difference: Number
    by_hand: Ratio | None = None


class TaskLoss(Record):
    """Speed of task-loss matching, by layer."""

    baseline: str
    layers: dict[str, TaskLossLayer]


class Measure(Record):
    """A measure: `seconds` from "moments" and of the "baseline", which is named.

    Attributes:
      speedup: Time of the baseline to that from moments.
      difference: Of the values, relative.
    """

    baseline: str
    seconds: dict[str, Number]
    speedup: Ratio
    difference: Number


class Moments(Record):
    """Speed of measures from moments, by measure."""

    samples: int
    features: int
    measures: dict[str, Measure]


class StitchingResult(runs.Result):
    """Speed of stitching."""

    task_loss: TaskLoss
    moments: Moments
