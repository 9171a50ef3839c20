"""Indices of how similar two activations of the same samples are.

| index | 1 (or distance 0) if | from moments |
|---|---|---|
| `cka` | equal kernels: linear, `RBF`, or any; debiased on request | linear |
| `cca`, `canonical_correlations` | one is an invertible affine map of the other | yes |
| `svcca`, `pwcca` | the same, by strong directions | yes |
| `linear_regression` | y is an affine map of x | yes |
| `procrustes`, `shape_distance` | one is a rotation of the other | yes |
| `max_correlation`, `matched_correlation` | the same units | yes |
| `rsa` | the same distances, in order | no |
| `mutual_neighbours` | the same nearest neighbours | no |

`bootstrap` gives an interval for any of them, `permutation_test` its value by chance.
"""

from stitching.similarity._cca import (
    canonical_correlations,
    cca,
    linear_regression,
    pwcca,
    svcca,
)
from stitching.similarity._cka import RBF, cka, linear
from stitching.similarity._distances import correlation_distance, euclidean_distance
from stitching.similarity._matching import (
    matched_correlation,
    max_correlation,
    unit_correlations,
)
from stitching.similarity._neighbours import mutual_neighbours
from stitching.similarity._rsa import pearson, rsa, spearman
from stitching.similarity._samples import flattened, positions
from stitching.similarity._shape import procrustes, shape_distance
from stitching.similarity._uncertainty import (
    Bootstrap,
    PermutationTest,
    bootstrap,
    permutation_test,
)

__all__ = [
    "RBF",
    "Bootstrap",
    "PermutationTest",
    "bootstrap",
    "canonical_correlations",
    "cca",
    "cka",
    "correlation_distance",
    "euclidean_distance",
    "flattened",
    "linear",
    "linear_regression",
    "matched_correlation",
    "max_correlation",
    "mutual_neighbours",
    "pearson",
    "permutation_test",
    "positions",
    "procrustes",
    "pwcca",
    "rsa",
    "shape_distance",
    "spearman",
    "svcca",
    "unit_correlations",
]
