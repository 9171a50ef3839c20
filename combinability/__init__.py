"""Permutation symmetry of networks, re-basin, and combinations of aligned networks."""

from combinability import coefficients, permutations
from combinability._barrier import Barrier, barrier, barriers
from combinability._batch_norm import reset_batch_norm
from combinability._combine import combine, combine_many
from combinability._difference import (
    Difference,
    ErrorOverlap,
    difference,
    disagreement,
    error_overlap,
    jensen_shannon,
    weight_cosine,
    weight_distance,
)
from combinability._evaluate import evaluate, evaluate_many
from combinability._repair import (
    ChannelStatistics,
    Correction,
    channel_statistics,
    corrected,
    fold_corrections,
    repair,
)
from combinability._rescale import Rescaling, infer_rescaling, rescale
from combinability._robustness import Robustness, robustness
from combinability._transitivity import Transitivity, cycle_defect, transitivity
from combinability.coefficients import uniform
from combinability.matching import (
    ManyMatching,
    Matching,
    SoftMatching,
    activation_matching,
    embed,
    match,
    match_many,
    soft_matching,
    straight_through_matching,
    transport,
    weight_matching,
)
from combinability.symmetry import (
    CertificationError,
    Group,
    Permutation,
    Symmetry,
    infer_symmetry,
    register_rule,
)

__all__ = [
    "Barrier",
    "CertificationError",
    "ChannelStatistics",
    "Correction",
    "Difference",
    "ErrorOverlap",
    "Group",
    "ManyMatching",
    "Matching",
    "Permutation",
    "Rescaling",
    "Robustness",
    "SoftMatching",
    "Symmetry",
    "Transitivity",
    "activation_matching",
    "barrier",
    "barriers",
    "channel_statistics",
    "coefficients",
    "combine",
    "combine_many",
    "corrected",
    "cycle_defect",
    "difference",
    "disagreement",
    "embed",
    "error_overlap",
    "evaluate",
    "evaluate_many",
    "fold_corrections",
    "infer_rescaling",
    "infer_symmetry",
    "jensen_shannon",
    "match",
    "match_many",
    "permutations",
    "register_rule",
    "repair",
    "rescale",
    "reset_batch_norm",
    "robustness",
    "soft_matching",
    "straight_through_matching",
    "transitivity",
    "transport",
    "uniform",
    "weight_cosine",
    "weight_distance",
    "weight_matching",
]
