"""The result of an experiment on stitching, as `result.json` holds it.

The front of network `a` is joined to the back of network `b`. Pairs are ordered,
intervals are over networks.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from benchmarks import runs
from benchmarks.intervals import Claim, Interval, PairInterval
from benchmarks.runs import Number, Record


class Networks(Record):
    """Scores on the test rows used here."""

    test_accuracy: Float64[np.ndarray, " network"]
    test_loss: Float64[np.ndarray, " network"]


class Layer(Record):
    """A layer at which networks are stitched."""

    name: str  # its path
    shape: list[int]  # of one sample's activation


class Stitch(Record):
    """A stitching map at one layer, over pairs."""

    method: Literal["direct", "task loss", "control"]  # how it was found
    kind: str  # the class of maps, such as "least squares"
    # Fraction of the full rank or of the largest penalty; the penalty; steps so far for
    # "early"; None for classes without.
    setting: float | None
    density: Number  # fraction of weights that are not zero
    # Fractions of test rows: rows are misses and hits of the stitched network, columns
    # misses and hits of network `b`.
    hits: Float64[np.ndarray, "2 2"]
    relative_accuracy: PairInterval  # relative to network `b`'s
    accuracy: Interval  # of the stitched network
    agreement: Interval  # with the classes of network `b`
    cross_entropy: Interval  # against the soft outputs of network `b`, nats
    residual: Interval  # 1 − R² at the layer
    # Mean squared Mahalanobis distance from network `b`'s own activations, in units of
    # theirs, and the probability that it is larger than one of theirs.
    distance: Interval
    auroc: Interval


class Cross(Record):
    """Maps and indices from every layer to every layer."""

    pairs: list[tuple[int, int]]
    # By score; rows are layers of network `a`, columns of network `b`.
    matrices: dict[str, Float64[np.ndarray, "front back"]]
    # By score, fraction of network `b`'s layers to which the same layer of network `a`
    # scores highest; none between two kinds of networks.
    identification: dict[str, PairInterval]
    # Of an index with the relative accuracy of a map; by map and index.
    correlations: dict[str, dict[str, PairInterval]]


class Other(Record):
    """Networks of another kind, stitched to and from."""

    model: str
    width: int | None
    layers: list[Layer]
    test_accuracy: Float64[np.ndarray, " network"]
    ahead: Cross  # fronts of the first kind, backs of the other
    back: Cross  # fronts of the other kind, backs of the first


class AuditControls(Record):
    """Relative accuracies of stitches that should succeed or fail."""

    self_stitch: Interval
    shuffled: Interval
    noise: Interval
    untrained: Interval


class LayerAudit(Record):
    """Whether a stitch can be trusted."""

    relative_accuracy: Interval  # of the stitch
    chance: Interval  # relative accuracy of the best constant answer
    r_squared: Interval  # at the layer
    distance: Interval  # Mahalanobis distance of stitched activations
    own_distance: Interval  # that of network `b`'s own, held out
    distance_auroc: Interval  # separates the two
    energy_auroc: Interval  # the same for the energies of the logits
    controls: AuditControls


class Audit(Record):
    """The audit."""

    pairs: list[tuple[int, int]]  # that were audited
    layers: dict[str, dict[str, LayerAudit]]  # by layer and method of matching


class Result(runs.Result):
    """An experiment on stitching."""

    networks: Networks  # what the networks do by themselves
    layers: list[Layer]
    pairs: list[tuple[int, int]]  # (front, back)
    # By layer and map; some maps are of the first pairs alone.
    stitches: dict[str, dict[str, Stitch]]
    indices: dict[str, dict[str, PairInterval]]  # similarity indices by layer
    # Spearman's, of an index with the relative accuracy of a map, or with its
    # "closeness" (minus the distance, task loss); by map and index.
    correlations: dict[str, dict[str, PairInterval]]  # over the layers of a pair
    between_pairs: dict[str, dict[str, Interval]]  # over pairs, mean over the layers
    cross: Cross | None  # layer to layer; None if no pair was asked for
    audit: Audit | None  # None if no pair was asked for
    other: Other | None  # None if no other kind of networks was asked for
    claims: list[Claim]  # what the papers claim, judged


class Preview(Record):
    """Two networks of a tour, stitched."""

    test_accuracy: list[Number]  # of each network
    stitches: dict[str, dict[str, Stitch]]  # by layer and map
    CKA: dict[str, Number]  # by layer
