"""Indices of how similar two activations of the same samples are.

All are invariant to permuting samples and features. What else leaves them unchanged:

| index | translation | isotropic scaling | feature scaling | orthogonal maps | invertible linear maps | from moments |
|---|---|---|---|---|---|---|
| `cka` | ✓ | ✓ | – | ✓ | – | linear |
| `cca`, `canonical_correlations` | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |
| `svcca` | ✓ | ✓ | – | ✓ | – | ✓ |
| `pwcca` | ✓ | ✓ | – | – | – | ✓ |
| `linear_regression` | ✓ | ✓ | – | ✓ | – | ✓ |
| `procrustes` | ✓ | ✓ | – | ✓ | – | ✓ |
| `shape_distance` | ✓ | ✓ | – | ✓ | – | ✓ |
| `max_correlation`, `matched_correlation` | ✓ | ✓ | ✓ | – | – | ✓ |
| `rsa` | – | ✓ | – | – | – | – |
| `mutual_neighbours` | ✓ | ✓ | – | ✓ | – | – |

All but `matched_correlation` may be a term of a loss: their gradients are finite where
features are constant, samples are few or activations are equal. `mutual_neighbours` and
`rsa` of ranks (the default) change in steps, so that theirs are 0.

`bootstrap` gives an interval for any of them, `permutation_test` its value by chance.
"""  # noqa: E501

from stitching.similarity._cca import (
    canonical_correlations,
    cca,
    linear_regression,
    procrustes,
    pwcca,
    shape_distance,
    svcca,
)
from stitching.similarity._cka import RBF, cka, linear
from stitching.similarity._distances import (
    correlation_distance,
    euclidean_distance,
    mutual_neighbours,
    pearson,
    rsa,
    spearman,
)
from stitching.similarity._samples import flattened, positions
from stitching.similarity._uncertainty import (
    Bootstrap,
    PermutationTest,
    bootstrap,
    permutation_test,
)
from stitching.similarity._units import (
    matched_correlation,
    max_correlation,
    unit_correlations,
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
