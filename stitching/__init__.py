"""Joining the front of one network to the back of another, and comparing networks."""

from stitching import layers, report, similarity, targets
from stitching._layer_moments import (
    LayerMatrix,
    LayerMoments,
    layer_cka,
    layer_moments,
)
from stitching._moments import Moments, merge, moments
from stitching.cutting import Cut, CutPoint, cut, cut_points
from stitching.direct._fit import (
    Fit,
    ReducedRank,
    least_squares,
    orthogonal,
    permutation,
    r_squared,
    reduced_rank,
    residual,
    semi_matching,
)
from stitching.direct._sparse import kkt_violation, largest_penalty, sparse, sparse_path
from stitching.training._batches import in_batches
from stitching.training._stitched import Stitched, stitch
from stitching.training._train import Trained, each, train, train_many

__all__ = [
    "Cut",
    "CutPoint",
    "Fit",
    "LayerMatrix",
    "LayerMoments",
    "Moments",
    "ReducedRank",
    "Stitched",
    "Trained",
    "cut",
    "cut_points",
    "each",
    "in_batches",
    "kkt_violation",
    "largest_penalty",
    "layer_cka",
    "layer_moments",
    "layers",
    "least_squares",
    "merge",
    "moments",
    "orthogonal",
    "permutation",
    "r_squared",
    "reduced_rank",
    "report",
    "residual",
    "semi_matching",
    "similarity",
    "sparse",
    "sparse_path",
    "stitch",
    "targets",
    "train",
    "train_many",
]
