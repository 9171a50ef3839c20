"""Principal axes of a pair of activations: what CCA and regression are made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stitching._moments import Moments, centre, product
from stitching.similarity._samples import Seen


class Principal(NamedTuple):
    """Principal axes of one activation, the strongest first.

    Attributes:
        deviations: standard deviations along the axes; not negative.
        axes: unit vectors in feature space, one a row.
        kept: the axes along which the activation varies beyond rounding.
    """

    deviations: Float[Array, " r"]
    axes: Float[Array, "r p"]
    kept: Bool[Array, " r"]


class PrincipalPair(NamedTuple):
    """Principal axes of both activations and how they correlate.

    Attributes:
        x: axes of the first.
        y: axes of the second.
        cross: correlations between the scores of x and those of y, that is the
            covariance of the whitened activations; 0 for axes that are not kept.
    """

    x: Principal
    y: Principal
    cross: Float[Array, "r s"]


def principal_pair(seen: Seen, centred: bool = True) -> PrincipalPair:
    """Principal axes from samples (SVD), or from moments (eigenvectors).

    From moments, deviations are roots, so axes are lost that are weaker than the root
    of what samples resolve.

    Args:
        seen: activations (n, p) and (n, q), or the moments of the pair.
        centred: whether means are taken off.
    """
    if isinstance(seen, Moments):
        return _from_moments(seen, centred)
    (scores_x, principal_x), (scores_y, principal_y) = (
        _of_samples(activation, centred) for activation in seen
    )
    cross = product(scores_x, scores_y)
    return with_kept(PrincipalPair(principal_x, principal_y, cross))


def with_kept(
    found: PrincipalPair, x: Array | bool = True, y: Array | bool = True
) -> PrincipalPair:
    """The pair with only those of its axes kept that the masks allow, too."""
    kept_x, kept_y = found.x.kept & x, found.y.kept & y
    cross = jnp.where(kept_x[:, None] & kept_y, found.cross, 0)
    return PrincipalPair(
        found.x._replace(kept=kept_x), found.y._replace(kept=kept_y), cross
    )


def _of_samples(x: Array, centred: bool) -> tuple[Array, Principal]:
    if centred:
        x, _ = centre(x)
    scores, values, axes = jnp.linalg.svd(x, full_matrices=False)
    kept = values > _rounding(x) * values[0]
    return scores, Principal(values / jnp.sqrt(x.shape[0]), axes, kept)


def _from_moments(moments: Moments, centred: bool) -> PrincipalPair:
    xx, xy, yy = moments.xx, moments.xy, moments.yy
    if not centred:
        xx = xx + jnp.outer(moments.mean_x, moments.mean_x)
        xy = xy + jnp.outer(moments.mean_x, moments.mean_y)
        yy = yy + jnp.outer(moments.mean_y, moments.mean_y)
    x, y = _of_covariance(xx), _of_covariance(yy)
    highest = jax.lax.Precision.HIGHEST
    maps = [_whitening(x), xy, _whitening(y).T]
    cross = jnp.linalg.multi_dot(maps, precision=highest)
    return with_kept(PrincipalPair(x, y, cross))


def _of_covariance(covariance: Array) -> Principal:
    values, axes = jnp.linalg.eigh(covariance)
    values, axes = values[::-1], axes[:, ::-1].T
    kept = values > _rounding(covariance) * values[0]
    return Principal(jnp.sqrt(values.clip(min=0)), axes, kept)


def _whitening(principal: Principal) -> Array:
    deviations = jnp.where(principal.kept, principal.deviations, 1)
    return principal.axes / deviations[:, None]


def _rounding(x: Array) -> float:
    """What is smaller than this share of the largest is rounding."""
    return float(jnp.finfo(x.dtype).eps) * max(32, x.shape[1])
