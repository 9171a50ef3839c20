"""Whether scores are larger than those of data in distribution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._finite import finite
from stitching._moments import real

Scores = Float[ArrayLike, " n"]


class OutOfDistribution(NamedTuple):
    """What `out_of_distribution` finds.

    Attributes:
        mean: of the scores.
        own_mean: of the network's own scores.
        beyond_95: share of scores above 95 % of the own ones; 0.05 in distribution.
        beyond_99: share of scores above 99 % of the own ones; 0.01 in distribution.
        auroc: probability that a score is larger than an own one; 0.5 in distribution.
    """

    mean: Float[Array, ""]
    own_mean: Float[Array, ""]
    beyond_95: Float[Array, ""]
    beyond_99: Float[Array, ""]
    auroc: Float[Array, ""]


def out_of_distribution(scores: Scores, own: Scores) -> OutOfDistribution:
    """How scores of a stitched network compare with network 2's own.

    A score means little by itself: it is read against the own scores of samples that
    neither the reference (the moments of `mahalanobis`) nor the map has seen. Give one
    score an image (`per_image`), not one a position. An AUROC below 0.5 says that the
    scores are *smaller* than the own ones; a least-squares map, which draws towards
    the mean, does that.

    Args:
        scores: (n,), of stitched activations; larger is farther out. NaN counts as
            infinitely far: a stitch that diverged is out of distribution.
        own: (m,), of network 2's own activations, held out.

    Returns:
        `OutOfDistribution`.

    Raises:
        TypeError: if scores are not real.
        ValueError: if there are none, they have more axes, or own ones that are not
            traced are not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> own = jnp.arange(100.0)
        >>> found = report.out_of_distribution(own + 50, own)
        >>> round(float(found.beyond_95), 2), round(float(found.auroc), 3)
        (0.55, 0.875)
    """
    scores, own = _scores("scores", scores), _scores("own", own)
    if not all(finite(own)):
        raise ValueError("own: expected finite scores, got NaN or infinity")
    return _compared(scores, own)


@jax.jit
def _compared(scores: Array, own: Array) -> OutOfDistribution:
    scores = jnp.where(jnp.isnan(scores), jnp.inf, scores)

    def beyond(share: float) -> Array:
        return (scores > jnp.quantile(own, share)).mean(dtype=scores.dtype)

    return OutOfDistribution(
        mean=scores.mean(),
        own_mean=own.mean(),
        beyond_95=beyond(0.95),
        beyond_99=beyond(0.99),
        auroc=_auroc(scores, own),
    )


def _auroc(scores: Array, own: Array) -> Array:
    """The share of pairs in which a score is larger than an own one, ties half."""
    own = jnp.sort(own)
    below = jnp.searchsorted(own, scores, side="left")
    not_above = jnp.searchsorted(own, scores, side="right")
    return ((below + not_above) / (2 * own.size)).astype(scores.dtype).mean()


def _scores(name: str, scores: Any) -> Array:
    scores = real(name, scores)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(
            f"{name}: expected one score a sample, shape (samples,), got "
            f"{scores.shape}; of positions take report.per_image({name})"
        )
    # Sorting needs them all in one place, and they are few.
    sharding = jax.typeof(scores).sharding
    if any(axis is not None for axis in sharding.spec):
        together = NamedSharding(sharding.mesh, PartitionSpec())
        scores = jax.sharding.reshard(scores, together)
    return scores
