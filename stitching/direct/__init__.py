"""Maps of one activation to another, fitted from the moments of the pair.

| fit | the map is | residual |
|---|---|---|
| `least_squares` | any affine one | the smallest |
| `reduced_rank(...).rank(r)` | of rank r | grows as r falls |
| `sparse`, `sparse_path` | with few entries other than zero | grows with the penalty |
| `orthogonal` | a rotation or reflection, optionally scaled | |
| `semi_matching` | of each target channel its best source | |
| `permutation` | of each target channel a source of its own | the largest |
"""

from stitching.direct._affine import (
    ReducedRank,
    least_squares,
    orthogonal,
    reduced_rank,
)
from stitching.direct._fit import Fit, r_squared, residual
from stitching.direct._matching import permutation, semi_matching
from stitching.direct._sparse import (
    kkt_violation,
    largest_penalty,
    sparse,
    sparse_path,
)

__all__ = [
    "Fit",
    "ReducedRank",
    "kkt_violation",
    "largest_penalty",
    "least_squares",
    "orthogonal",
    "permutation",
    "r_squared",
    "reduced_rank",
    "residual",
    "semi_matching",
    "sparse",
    "sparse_path",
]
