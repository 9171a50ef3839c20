"""The result of an experiment on combinability, as `result.json` holds it.

Metrics are "train_loss", "test_loss" (mean cross entropies in nats), "train_error" and
"test_error" (fractions). Intervals are over networks. A ring has as many pairs as there
are networks, each network in two of them.
"""

import msgspec
import numpy as np
from jaxtyping import Float64

from benchmarks import runs
from benchmarks.intervals import Claim, Interval, PairInterval
from benchmarks.runs import Number, Record

PerPair = Float64[np.ndarray, " pair"]
PerFraction = Float64[np.ndarray, " fraction"]
Grid = Float64[np.ndarray, "y x"]


class Matching(Record):
    """Weight matching of all pairs."""

    pairs: list[tuple[int, int]]  # the two networks of each pair
    objective: PerPair  # larger is better
    starts: dict[str, PerPair]  # the objective that each starting point led to
    best_start: list[str]
    moved: PerPair  # fraction of the units that change their place


class Cycle(Record):
    """How far the composition of three matchings is from the identity."""

    mean: Number  # fraction of the units that the composition moves
    chance: Number  # what random permutations give


class Transitivity(Record):
    """Barriers between networks that are matched directly or through a third."""

    # By "unmatched", "direct" and "through", and by metric.
    barriers: dict[str, dict[str, PairInterval]]
    # Of networks i and j; "through_first": through the first network.
    matrices: dict[str, dict[str, Float64[np.ndarray, "network network"]]]
    cycles: dict[str, Cycle]  # by group of units


class Controls(Record):
    """Barriers with and without matching, REPAIR and temperature."""

    fractions: list[float]  # positions along the segment between two networks
    barriers: dict[str, dict[str, PairInterval]]  # by control and metric
    curves: dict[str, dict[str, PerFraction]]  # means over pairs at each position


class Cell(Record):
    """How coefficients are drawn."""

    distribution: str
    granularity: str  # what shares a coefficient: an element, a unit, …
    aligned: bool  # whether the networks are


class Spread(Record):
    """A metric of random combinations."""

    percentiles: Float64[np.ndarray, " percentile"]  # 0th to 100th, all combinations
    excess: (
        PairInterval  # mean of a pair's combinations minus its parents'; over a ring
    )
    excess_95: PairInterval  # the same of the 95th percentile


class Combinations(Record):
    """Random combinations of one kind."""

    cell: Cell
    # Mean test error of repaired combinations minus their parents'; None of networks
    # that are not aligned, and where it was not measured.
    repaired: PairInterval | None
    train_loss: Spread
    train_error: Spread
    test_loss: Spread
    test_error: Spread


class Variances(Record):
    """The variance of a layer's outputs, summed over channels.

    By cell, over a ring, relative to the mean of the two parents.
    """

    correlation: PairInterval  # of the outputs of two aligned networks
    # From the correlation and the mean and variance of the coefficients.
    predicted: dict[str, PairInterval]
    signal: dict[str, PairInterval]  # the part that is the same in all combinations
    measured: dict[str, PairInterval]


class Matched(Record):
    """Networks matched in another way than by weights; over a ring."""

    moved: PairInterval  # fraction of units that are placed differently than by weights
    controls: Controls  # "matched" and "matched, repaired"
    combinations: Combinations  # uniform ones, a coefficient for each parameter


class Perturbed(Record):
    """Networks whose matching is perturbed; by metric, over a ring."""

    barrier: dict[str, PairInterval]  # of the segment
    excess: dict[str, PairInterval]  # of uniform combinations, beyond the parents' mean


class Robustness(Record):
    """What remains when a fraction of the matched units is permuted."""

    fractions: list[float]
    moved: PerFraction  # fraction of units that did move
    lost: PerFraction  # fraction of the matching objective's gain that is lost
    rows: list[Perturbed]  # for each fraction


class Relative(Record):
    """Disagreement relative to that of two aligned networks."""

    parents: Interval
    combinations: Interval


class Difference(Record):
    """How different networks are, by measure of `combinability.difference`."""

    seeds: dict[str, Interval]  # two networks, aligned
    parents: dict[str, Interval]  # a random combination and either of its parents
    combinations: dict[str, Interval]  # two random combinations
    relative: Relative


class Plane(Record):
    """Metrics on a plane through three networks.

    Distances are Euclidean, relative to that of the first two networks.
    """

    x: list[float]
    y: list[float]
    marks: list[tuple[float, float]]  # positions of the three networks
    train_loss: Grid
    train_error: Grid
    test_loss: Grid
    test_error: Grid


class Landscape(Record):
    """Planes through three networks."""

    aligned: Plane  # to the first
    unmatched: Plane  # as they were trained
    # The first network and two random vertices of the hypercube between it and the
    # second.
    vertices: Plane


class Width(Record):
    """Networks of one width."""

    parameters: int  # of a network
    symmetry: str  # its table of groups
    networks: dict[str, Float64[np.ndarray, " network"]]  # scores on whole splits
    parents: list[dict[str, Number]]  # metrics of each network on the rows used here
    matching: Matching
    transitivity: Transitivity
    controls: Controls
    hypercube: dict[str, Combinations]  # by name of the cell
    variances: dict[str, Variances]  # by layer; of older results none
    robustness: Robustness
    difference: Difference
    landscape: Landscape
    claims: list[Claim]
    # By way of matching; of older results none.
    matchings: dict[str, Matched] = msgspec.field(default_factory=dict)


class Result(runs.Result):
    """An experiment on combinability; by width, as a string."""

    widths: dict[str, Width]


class Preview(Record):
    """Two networks of a tour, combined."""

    width: int  # hidden units of each layer
    symmetry: str  # table of groups
    log10_equivalent: Number  # of the number of permutations of units
    starts: dict[str, Number]  # matching objective by starting point
    parents: list[dict[str, Number]]  # metrics of each network
    hypercube: dict[str, Combinations]  # by name of the cell
