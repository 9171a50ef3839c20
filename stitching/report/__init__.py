"""What a stitch achieves, and whether to believe it."""

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
