"""Indices of similarity of two activations, beside what their stitches do."""

from typing import Any

import jax

import stitching
from benchmarks.networks import Data
from benchmarks.stitching._layers import Layer
from stitching import similarity

# Images whose Gram matrices are compared.
_IMAGES = 500

# Of positions, from moments.
OF_MOMENTS = (
    "CKA",
    "CCA",
    "SVCCA",
    "PWCCA",
    "linear regression",
    "1 − Procrustes distance",
    "matched correlation",
)
# Of whole images, from samples.
OF_IMAGES = ("debiased CKA, images", "RSA, images", "mutual neighbours, images")


def indices(
    layer: Layer, a: Any, b: Any, held_out: stitching.Moments, test: Data
) -> dict[str, float]:
    """Every index, the larger the more alike.

    Args:
      layer: Where activations are taken.
      a: Variables of network 1.
      b: Variables of network 2.
      held_out: Moments of the activations of test rows, positions as samples.
      test: The test rows.

    Returns:
      The value of each index in `OF_MOMENTS` and `OF_IMAGES`.
    """
    found = dict(zip(OF_MOMENTS, _of_moments(held_out), strict=True))
    images = test.inputs[:_IMAGES]
    x, y = (similarity.flattened(layer.cut.front(v, images)) for v in (a, b))
    found |= dict(zip(OF_IMAGES, _of_images(x, y), strict=True))
    return {name: float(value) for name, value in found.items()}


def _of_moments(moments: stitching.Moments) -> list[Any]:
    return [*_compiled(moments), similarity.matched_correlation(moments)]


@jax.jit
def _compiled(moments):
    return [
        similarity.cka(moments),
        similarity.cca(moments),
        similarity.svcca(moments),
        similarity.pwcca(moments),
        similarity.linear_regression(moments),
        1 - similarity.procrustes(moments),
    ]


@jax.jit
def _of_images(x, y):
    return [
        similarity.cka(x, y, debiased=True),
        similarity.rsa(x, y),
        similarity.mutual_neighbours(x, y),
    ]
