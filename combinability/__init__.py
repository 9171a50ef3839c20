"""Permutation symmetry of networks, re-basin, and combinations of aligned networks."""

from combinability._barrier import Barrier, barrier
from combinability._batch_norm import reset_batch_norm
from combinability._coefficients import (
    bernoulli,
    beta,
    line,
    normal,
    simplex,
    uniform,
)
from combinability._combine import combine, combine_many
from combinability._cycles import cycle_defect
from combinability._difference import (
    Difference,
    ErrorOverlap,
    cosine,
    difference,
    disagreement,
    error_overlap,
    jensen_shannon,
    l2,
)
from combinability._distribution import Coefficients, Distribution
from combinability._evaluate import evaluate, evaluate_many
from combinability._layers import ChannelStatistics, channel_statistics
from combinability._permutation import (
    compose,
    distance,
    identity,
    invert,
    perturb,
    random,
)
from combinability._repair import Correction, corrected, fold, repair
from combinability._robustness import Robustness, robustness
from combinability._transitivity import Transitivity, transitivity
from combinability.matching import (
    ManyMatching,
    Matching,
    activation_matching,
    match,
    match_many,
    straight_through_matching,
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
    "Coefficients",
    "Correction",
    "Difference",
    "Distribution",
    "ErrorOverlap",
    "Group",
    "ManyMatching",
    "Matching",
    "Permutation",
    "Robustness",
    "Symmetry",
    "Transitivity",
    "activation_matching",
    "barrier",
    "bernoulli",
    "beta",
    "channel_statistics",
    "combine",
    "combine_many",
    "compose",
    "corrected",
    "cosine",
    "cycle_defect",
    "difference",
    "disagreement",
    "distance",
    "error_overlap",
    "evaluate",
    "evaluate_many",
    "fold",
    "identity",
    "infer_symmetry",
    "invert",
    "jensen_shannon",
    "l2",
    "line",
    "match",
    "match_many",
    "normal",
    "perturb",
    "random",
    "register_rule",
    "repair",
    "reset_batch_norm",
    "robustness",
    "simplex",
    "straight_through_matching",
    "transitivity",
    "uniform",
    "weight_matching",
]
