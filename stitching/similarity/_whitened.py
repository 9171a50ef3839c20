"""A pair of activations, both whitened: what CCA and regression are made of."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stitching._moments import Moments, centre, product
from stitching._whitening import varying, whitening
from stitching.similarity._samples import Seen, in_units, moments_of


class Whitened(NamedTuple):
    """One activation as uncorrelated scores of variance 1 times a matrix.

    Attributes:
        factor: F with x = scores · F · scale, so that FᵀF is the covariance of x in
            units of the scale.
        kept: the scores along which the activation varies beyond rounding. They are
            chosen among correlations, so that a feature of large scale hides no other.
        scale: a number.
    """

    factor: Float[Array, "r p"]
    kept: Bool[Array, " r"]
    scale: Float[Array, ""]


class WhitenedPair(NamedTuple):
    """Both activations and the correlations of their scores.

    Attributes:
        x: the first.
        y: the second.
        cross: correlations of the scores of x and of y; 0 for those that are not kept.
    """

    x: Whitened
    y: Whitened
    cross: Float[Array, "r s"]

    @property
    def rank(self) -> Array:
        """The smaller of the two ranks."""
        return jnp.minimum(self.x.kept.sum(), self.y.kept.sum())


def whitened(seen: Seen, centred: bool = True) -> WhitenedPair:
    """Scores from samples (SVD), or from moments (whitening).

    From moments, deviations are roots, so axes are lost that are weaker than the root
    of what samples resolve.

    Args:
        seen: activations (n, p) and (n, q), or the moments of the pair.
        centred: whether means are subtracted.
    """
    if isinstance(seen, Moments):
        return _from_moments(seen, centred)
    (scores_x, x), (scores_y, y) = (_of_samples(each, centred) for each in seen)
    both = x.kept[:, None] & y.kept
    return WhitenedPair(x, y, jnp.where(both, product(scores_x, scores_y), 0))


def _of_samples(x: Array, centred: bool) -> tuple[Array, Whitened]:
    x, unit = in_units(x)
    mean: Array | float = 0.0
    if centred:
        x, mean = centre(x)
    largest = jnp.abs(x).max(axis=0)
    largest = jnp.where(largest > 0, largest, 1)
    x = x / largest
    deviations = jnp.sqrt((x * x).mean(axis=0))
    varies = varying(deviations**2, mean / largest)
    x = jnp.where(varies, x / jnp.where(varies, deviations, 1), 0)
    scores, values, axes = jnp.linalg.svd(x, full_matrices=False)
    rounding = jnp.finfo(x.dtype).eps * max(32, x.shape[1])
    kept = values > rounding * values[0]
    values = jnp.where(kept, values, 0) / jnp.sqrt(x.shape[0])
    factor = values[:, None] * axes * (largest * deviations)
    return scores, Whitened(factor, kept, unit)


def _from_moments(given: Moments, centred: bool) -> WhitenedPair:
    seen = moments_of(given)
    xx, xy, yy = seen.xx, seen.xy, seen.yy
    means: tuple[Array | float, ...] = seen.mean_x, seen.mean_y
    if not centred:
        xx = xx + jnp.outer(seen.mean_x, seen.mean_x)
        xy = xy + jnp.outer(seen.mean_x, seen.mean_y)
        yy = yy + jnp.outer(seen.mean_y, seen.mean_y)
        means = 0.0, 0.0
    roots, activations = [], []
    for second, raw, mean in zip((xx, yy), (given.xx, given.yy), means, strict=True):
        root = whitening(second, varying(jnp.diagonal(second), mean))
        kept = (root != 0).any(axis=0)
        scale = jnp.sqrt(jnp.diagonal(raw).max())
        roots.append(root)
        activations.append(Whitened(product(root, second), kept, scale))
    cross = product(roots[0], product(xy.T, roots[1]))
    return WhitenedPair(activations[0], activations[1], cross)
