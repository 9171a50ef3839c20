"""What a stitch achieves, and whether to believe it.

| function | asks |
|---|---|
| `measures`: `accuracy`, `relative_accuracy`, `agreement`, `cross_entropy`, `hits_table` | how well does the stitched network classify, and is it like network 2? |
| `regression_measures`: `r_squared` | the same of outputs that are values |
| `mahalanobis`, `energy`, `out_of_distribution` | does network 2 ever have such activations itself? |
| `identification` | is each layer matched best by its counterpart? |
| `controls` | what does the method give where the answer is known? |
| `audit`, `audit_activations` | all of these for one stitch, with the held-out R² at the cut |
"""  # noqa: E501

from stitching.report._audit import Audit, TaskLoss, audit, audit_activations
from stitching.report._controls import Controls, controls, gaussian_noise, shuffled
from stitching.report._distribution import (
    OutOfDistribution,
    energy,
    mahalanobis,
    out_of_distribution,
    per_image,
)
from stitching.report._identification import (
    Identification,
    identification,
    layer_scores,
)
from stitching.report._measures import (
    Measures,
    RegressionMeasures,
    accuracy,
    agreement,
    cross_entropy,
    hits_table,
    measures,
    r_squared,
    regression_measures,
    relative_accuracy,
)

__all__ = [
    "Audit",
    "Controls",
    "Identification",
    "Measures",
    "OutOfDistribution",
    "RegressionMeasures",
    "TaskLoss",
    "accuracy",
    "agreement",
    "audit",
    "audit_activations",
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
    "r_squared",
    "regression_measures",
    "relative_accuracy",
    "shuffled",
]
