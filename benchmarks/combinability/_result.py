"""The result of an experiment on combinability, as `result.json` holds it.

Metrics are "train_loss", "test_loss" (mean cross entropies in nats), "train_error" and
"test_error" (fractions). Intervals are over networks. A ring has as many pairs as there
are networks, each network in two of them.
"""

import numpy as np
from jaxtyping import Float64

from benchmarks import runs
from benchmarks.intervals import Claim, Interval, PairInterval
from benchmarks.runs import Number, Record

PerPair = Float64[np.ndarray, " pair"]


class Matching(Record):
    """Weight matching of all pairs.

    Attributes:
      pairs: The two networks of each pair.
      objective: Of each pair; larger is better.
      starts: The objective that each starting point led to.
      best_start: Name of the best one.
      moved: Fraction of the units that change their place.
    """

    pairs: list[tuple[int, int]]
    objective: PerPair
    starts: dict[str, PerPair]
    best_start: list[str]
    moved: PerPair


class Cycle(Record):
    """How far the composition of three matchings is from the identity.

    Attributes:
      mean: Fraction of the units that the composition moves.
      chance: What random permutations give.
    """

    mean: Number
    chance: Number


class Transitivity(Record):
    """Barriers between networks that are matched directly or through a third.

    Attributes:
      barriers: By "unmatched", "direct" and "through", and by metric.
      matrices: Barrier of networks i and j, by the same ("through_first": through the
        first network) and by metric.
      cycles: By group of units.
    """

    barriers: dict[str, dict[str, PairInterval]]
    matrices: dict[str, dict[str, Float64[np.ndarray, "network network"]]]
    cycles: dict[str, Cycle]


class Controls(Record):
    """Barriers with and without matching, REPAIR and temperature.

    Attributes:
      fractions: Positions along the segment between two networks.
      barriers: By control and metric.
      curves: Mean over pairs at each position, by control and metric.
    """

    fractions: list[float]
    barriers: dict[str, dict[str, PairInterval]]
    curves: dict[str, dict[str, Float64[np.ndarray, " fraction"]]]


class Cell(Record):
    """How coefficients are drawn.

    Attributes:
      distribution: Its name.
      granularity: What shares a coefficient: an element, a unit, ….
      aligned: Whether the networks are.
    """

    distribution: str
    granularity: str
    aligned: bool


class Spread(Record):
    """A metric of random combinations.

    Attributes:
      percentiles: 0th to 100th, over all combinations.
      excess: Mean over a pair's combinations minus the mean of its parents; over a
        ring.
      excess_95: The same of the 95th percentile.
    """

    percentiles: Float64[np.ndarray, " percentile"]
    excess: PairInterval
    excess_95: PairInterval


class Combinations(Record):
    """Random combinations of one kind."""

    cell: Cell
    train_loss: Spread
    train_error: Spread
    test_loss: Spread
    test_error: Spread


class Perturbed(Record):
    """Networks whose matching is perturbed; by metric, over a ring.

    Attributes:
      barrier: Of the segment.
      excess: Of uniform combinations, beyond the mean of the parents.
    """

    barrier: dict[str, PairInterval]
    excess: dict[str, PairInterval]


class Robustness(Record):
    """What remains when a fraction of the matched units is permuted.

    Attributes:
      fractions: The fractions.
      moved: Fraction of units that did move.
      lost: Fraction of the matching objective's gain that is lost.
      rows: For each fraction.
    """

    fractions: list[float]
    moved: Float64[np.ndarray, " fraction"]
    lost: Float64[np.ndarray, " fraction"]
    rows: list[Perturbed]


class Relative(Record):
    """Disagreement relative to that of two aligned networks."""

    parents: Interval
    combinations: Interval


class Difference(Record):
    """How different networks are, by measure of `combinability.difference`.

    Attributes:
      seeds: Two networks, aligned.
      parents: A random combination and either of its parents.
      combinations: Two random combinations.
      relative: Disagreement of the latter two relative to the first.
    """

    seeds: dict[str, Interval]
    parents: dict[str, Interval]
    combinations: dict[str, Interval]
    relative: Relative


class Plane(Record):
    """Metrics on a plane through three networks.

    Distances are Euclidean, relative to that of the first two networks.

    Attributes:
      x: Coordinates along the first axis.
      y: Along the second.
      marks: Positions of the three networks.
    """

    x: list[float]
    y: list[float]
    marks: list[tuple[float, float]]
    train_loss: Float64[np.ndarray, "y x"]
    train_error: Float64[np.ndarray, "y x"]
    test_loss: Float64[np.ndarray, "y x"]
    test_error: Float64[np.ndarray, "y x"]


class Landscape(Record):
    """Planes through three networks.

    Attributes:
      aligned: Networks aligned to the first.
      unmatched: As they were trained.
      vertices: The first network and two random vertices of the hypercube between it
        and the second.
    """

    aligned: Plane
    unmatched: Plane
    vertices: Plane


class Width(Record):
    """Networks of one width.

    Attributes:
      parameters: Of a network.
      symmetry: Its table of groups.
      networks: Scores of each network on whole splits, by name.
      parents: Metrics of each network on the rows used here.
      hypercube: Random combinations by name of the cell.
      claims: What the paper claims, judged.
    """

    parameters: int
    symmetry: str
    networks: dict[str, Float64[np.ndarray, " network"]]
    parents: list[dict[str, Number]]
    matching: Matching
    transitivity: Transitivity
    controls: Controls
    hypercube: dict[str, Combinations]
    robustness: Robustness
    difference: Difference
    landscape: Landscape
    claims: list[Claim]


class Result(runs.Result):
    """An experiment on combinability.

    Attributes:
      widths: By width, as a string.
    """

    widths: dict[str, Width]


class Preview(Record):
    """Two networks of a tour, combined.

    Attributes:
      width: Hidden units of each layer.
      symmetry: Table of groups.
      log10_equivalent: Decimal logarithm of the number of permutations of units.
      starts: Matching objective by starting point.
      parents: Metrics of each network.
      hypercube: Random combinations by name of the cell.
    """

    width: int
    symmetry: str
    log10_equivalent: Number
    starts: dict[str, Number]
    parents: list[dict[str, Number]]
    hypercube: dict[str, Combinations]
