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
    """A layer at which networks are stitched.

    Attributes:
      name: Its path.
      shape: Of one sample's activation.
    """

    name: str
    shape: list[int]


class Stitch(Record):
    """A stitching map at one layer, over pairs.

    Attributes:
      method: How it was found: "direct", by training on the "task loss", or "control".
      kind: The class of maps, such as "least squares".
      setting: Fraction of the full rank or of the largest penalty; the penalty; steps
        so far for "early"; None for classes without.
      density: Fraction of weights that are not zero.
      hits: Fractions of test rows: rows are misses and hits of the stitched network,
        columns misses and hits of network `b`.
      relative_accuracy: Relative to network `b`'s.
      accuracy: Of the stitched network.
      agreement: With the classes of network `b`.
      cross_entropy: Against the soft outputs of network `b`, nats.
      residual: 1 − R² at the layer.
      distance: Mean squared Mahalanobis distance from network `b`'s own activations, in
        units of theirs.
      auroc: Probability that it is larger than one of theirs.
    """

    method: Literal["direct", "task loss", "control"]
    kind: str
    setting: float | None
    density: Number
    hits: Float64[np.ndarray, "2 2"]
    relative_accuracy: PairInterval
    accuracy: Interval
    agreement: Interval
    cross_entropy: Interval
    residual: Interval
    distance: Interval
    auroc: Interval


class Cross(Record):
    """Least squares from every layer to every layer.

    Attributes:
      pairs: The pairs.
      matrices: By score; rows are layers of network `a`, columns of network `b`.
      identification: By score, fraction of network `b`'s layers to which the same layer
        of network `a` scores highest.
      correlations: Of a score with the relative accuracy.
    """

    pairs: list[tuple[int, int]]
    matrices: dict[str, Float64[np.ndarray, "layer layer"]]
    identification: dict[str, PairInterval]
    correlations: dict[str, PairInterval]


class AuditControls(Record):
    """Relative accuracies of stitches that should succeed or fail."""

    self_stitch: Number
    shuffled: Number
    noise: Number
    untrained: Number


class LayerAudit(Record):
    """Whether a stitch can be trusted; means over pairs.

    Attributes:
      relative_accuracy: Of the stitch.
      chance: Relative accuracy of the best constant answer.
      r_squared: At the layer.
      distance: Mahalanobis distance of stitched activations.
      own_distance: That of network `b`'s own, held out.
      distance_auroc: Separates the two.
      energy_auroc: The same for the energies of the logits.
      controls: Stitches that should succeed or fail.
    """

    relative_accuracy: Number
    chance: Number
    r_squared: Number
    distance: Number
    own_distance: Number
    distance_auroc: Number
    energy_auroc: Number
    controls: AuditControls


class Audit(Record):
    """The audit.

    Attributes:
      pairs: The pairs that were audited.
      layers: By layer and method of matching.
    """

    pairs: list[tuple[int, int]]
    layers: dict[str, dict[str, LayerAudit]]


class Result(runs.Result):
    """An experiment on stitching.

    Attributes:
      networks: What the networks do by themselves.
      layers: Where they are stitched.
      pairs: (front, back) of each pair.
      stitches: By layer and map; some maps are of the first pairs alone.
      indices: Similarity indices by layer.
      correlations: Spearman's, over the layers of a pair, of an index with the relative
        accuracy of a map; by map and index.
      cross: Layer to layer; None if no pair was asked for.
      audit: None if no pair was asked for.
      claims: What the papers claim, judged.
    """

    networks: Networks
    layers: list[Layer]
    pairs: list[tuple[int, int]]
    stitches: dict[str, dict[str, Stitch]]
    indices: dict[str, dict[str, PairInterval]]
    correlations: dict[str, dict[str, PairInterval]]
    cross: Cross | None
    audit: Audit | None
    claims: list[Claim]


class Preview(Record):
    """Two networks of a tour, stitched.

    Attributes:
      test_accuracy: Of each network.
      stitches: By layer and map.
      CKA: By layer.
    """

    test_accuracy: list[Number]
    stitches: dict[str, dict[str, Stitch]]
    CKA: dict[str, Number]
