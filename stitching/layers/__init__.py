"""Stitching layers: affine maps of channels, each within a class of its own, as Flax
modules that train: Linen, and NNX by `to_nnx`.

| layer | its weight, at every step | its nearest member of a weight |
|---|---|---|
| `Affine` | any | itself |
| `Sparse` | exact zeros, with its proximal step behind the optimizer | itself |
| `MaskedAffine` | zero outside a fixed mask | masked |
| `LowRank` | of at most a rank | truncated singular values |
| `Orthogonal` | orthonormal rows or columns, to rounding | polar factor |
| `Matching` | zeros and ones; trained straight through | assignment, or best sources |
| `FixedMatching` | zeros and ones; only the bias trains | best sources |
"""

from stitching.layers._layers import (
    Affine,
    FixedMatching,
    LowRank,
    MaskedAffine,
    Matching,
    Orthogonal,
    Sparse,
)
from stitching.layers._nnx import to_nnx
from stitching.layers._proximal import proximal_l1
from stitching.layers._shapes import map_to_tokens, resize, resize_tokens, tokens_to_map
from stitching.layers._stitching_layer import (
    StitchingLayer,
    from_fit,
    identity,
    random_permutation,
)

__all__ = [
    "Affine",
    "FixedMatching",
    "LowRank",
    "MaskedAffine",
    "Matching",
    "Orthogonal",
    "Sparse",
    "StitchingLayer",
    "from_fit",
    "identity",
    "map_to_tokens",
    "proximal_l1",
    "random_permutation",
    "resize",
    "resize_tokens",
    "to_nnx",
    "tokens_to_map",
]
