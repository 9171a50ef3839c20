"""What a stitch achieves, and whether to believe it.

| function | asks |
|---|---|
| `measures`: `accuracy`, `relative_accuracy`, `agreement`, `cross_entropy`, `hits_table` | how well does the stitched network do, and is it like network 2? |
| `mahalanobis`, `energy`, `out_of_distribution` | does network 2 ever have such activations itself? |
| `identification` | is each layer matched best by its counterpart? |
| `controls` | what does the method give where the answer is known? |
| `audit` | all of these of one stitch, with the held-out R² |
"""  # noqa: E501

from stitching.report._accuracy import (
    accuracy,
    agreement,
    hits_table,
    relative_accuracy,
)
from stitching.report._audit import Audit, audit
from stitching.report._controls import Controls, controls, gaussian_noise, shuffled
from stitching.report._cross_entropy import cross_entropy
from stitching.report._energy import energy
from stitching.report._identification import (
    Identification,
    identification,
    layer_scores,
)
from stitching.report._mahalanobis import mahalanobis, per_image
from stitching.report._measures import Measures, measures
from stitching.report._out_of_distribution import (
    OutOfDistribution,
    out_of_distribution,
)

__all__ = [
    "Audit",
    "Controls",
    "Identification",
    "Measures",
    "OutOfDistribution",
    "accuracy",
    "agreement",
    "audit",
    "controls",
    "cross_entropy",
    "energy",
    "gaussian_noise",
    "hits_table",
    "identification",
    "layer_scores",
    "mahalanobis",
    "measures",
    "out_of_distribution",
    "per_image",
    "relative_accuracy",
    "shuffled",
]
