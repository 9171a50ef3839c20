"""Whether a stitched network's activations and logits are like network 2's own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._checks import finite, positive, real
from stitching._linear import times, varying, whitening
from stitching._moments import Moments
from stitching.report._measures import Logits, Weights, checked_logits, checked_weights

Scores = Float[ArrayLike, " n"]


def energy(logits: Logits, temperature: Any = 1.0) -> Float[Array, "*samples"]:
    r"""Return the energy of logits, lower where the network is more confident.

    .. math::

        -T \log \sum_c \exp(\ell_c / T)

    Inputs that are out of distribution usually have a high one; a map that was trained
    through the frozen back may also drive it lower than network 2 ever gets by itself.

    Args:
        logits: (..., classes); each leading index is a sample.
        temperature: T, above 0.

    Returns:
        One number per sample, of shape (...), in units of the logits.

    Raises:
        TypeError, ValueError: if the logits are not real, have no samples or classes,
            or a temperature that is not traced is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> unsure, confident = report.energy(jnp.array([[0.0, 0.0], [60.0, 0.0]]))
        >>> round(float(unsure), 3), round(float(confident), 3)
        (-0.693, -60.0)

    References:
        Liu et al., 2020, arXiv 2010.03759.
    """
    positive("temperature", temperature)
    (logits,), _ = checked_logits({"logits": logits}, None)
    return _energy(logits, temperature)


@jax.jit
def _energy(logits: Array, temperature: Any) -> Array:
    return -temperature * jax.nn.logsumexp(logits / temperature, axis=-1)


def mahalanobis(
    activation: Float[ArrayLike, "*samples q"],
    own: Moments,
    *,
    shrinkage: float = 1e-3,
) -> Float[Array, "*samples"]:
    r"""Return the squared Mahalanobis distance from a network's own activations.

    .. math::

        \frac{(a - \mu)^\top \Sigma_s^{-1} (a - \mu)}
             {\operatorname{tr}(\Sigma_s^{-1} \Sigma)}, \qquad
        \Sigma_s = (1 - s)\,\Sigma + s\,\tfrac{\operatorname{tr} \Sigma}{q}\,1

    with mean and covariance of the network's own activations. The unit is their mean
    squared distance: 1 is a typical own activation. The covariance is shrunk, as a map
    trained through the frozen back may leave along directions in which the own
    activations do not vary at all, where the pseudo-inverse sees nothing: there a
    deviation of √s (3 %) of the typical one counts as a deviation of 1.

    Invariant, of both activations together, to translation, isotropic scaling and
    orthogonal maps; without shrinkage to every invertible affine map.

    Args:
        activation: (..., q), channels last; each position of a map is a sample
            (`per_image` puts them together).
        own: `stitching.moments(own)` of the network's own activation, or of a pair
            (network 1, network 2), of which network 2's are taken.
        shrinkage: s, in [0, 1]. At 0 directions without variance are left out.

    Returns:
        One number per sample, of shape (...), not negative.

    Raises:
        TypeError: if own are not `Moments`.
        ValueError: if the numbers of channels differ, shrinkage is out of range, or own
            moments that are not traced have no variance.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> from stitching import report
        >>> own = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
        >>> far = jnp.array([[3.0, 0.0]])
        >>> report.mahalanobis(far, stitching.moments(own), shrinkage=0.0).tolist()
        [9.0]

    References:
        As a score of what is out of distribution: Lee et al., 2018, arXiv 1807.03888.
        Shrinkage to this target: Ledoit and Wolf, 2004. The unit: ours.
    """
    if not isinstance(own, Moments):
        raise TypeError(
            f"own: expected stitching.Moments, got {type(own).__name__}; compute "
            f"stitching.moments(own) of the network's own activation"
        )
    of_pair = own.yy.size > 0
    mean, covariance = (own.mean_y, own.yy) if of_pair else (own.mean_x, own.xx)
    if not isinstance(covariance, Tracer) and not np.trace(covariance) > 0:
        raise ValueError(
            "own: expected an activation that varies, got moments without variance "
            "(one sample only, dead channels only, NaN, or squares too small for "
            f"{covariance.dtype}: scale them first)"
        )
    activation = real("activation", activation)
    if activation.ndim < 1 or activation.shape[-1:] != mean.shape:
        raise ValueError(
            f"activation: expected {mean.size} channels on the last axis, as the own "
            f"moments have, got shape {activation.shape}"
        )
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage: expected a number in [0, 1], got {shrinkage}")
    return _mahalanobis(activation, mean, covariance, shrinkage)


@jax.jit
def _mahalanobis(
    activation: Array, mean: Array, covariance: Array, shrinkage: float
) -> Array:
    variances = jnp.diagonal(covariance)
    varies = varying(variances, mean) | (shrinkage > 0)
    ridge = shrinkage * variances.mean()
    root = whitening((1 - shrinkage) * covariance, varies, ridge)
    unit = (root * times(covariance, root)).sum()
    return (times(activation - mean, root) ** 2).sum(axis=-1) / unit


def per_image(
    scores: Float[ArrayLike, "n *positions"], *, weights: Weights = None
) -> Float[Array, " n"]:
    """Return one score per image: the mean over its positions.

    Positions of an image depend on each other, so they are not samples of their own:
    shares and AUROCs are taken over images.

    Args:
        scores: (images, ...), one per position; (images,) stays as it is.
        weights: of the positions, at least 0; an image without any has score 0.

    Returns:
        Shape (images,).

    Raises:
        ValueError: if there is no axis of images, or weights do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> report.per_image(jnp.array([[[1.0, 3.0]], [[0.0, 0.0]]])).tolist()
        [2.0, 0.0]
    """
    scores = real("scores", scores)
    if scores.ndim < 1:
        raise ValueError("scores: expected shape (images, ...), got ()")
    axes = tuple(range(1, scores.ndim))
    if weights is None:
        return scores.mean(axis=axes)
    known: Any = checked_weights(weights, scores.shape)
    total = known.sum(axis=axes)
    terms = jnp.where(known > 0, known * scores, 0).sum(axis=axes)
    return terms / jnp.where(total > 0, total, 1)


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
    """Compare scores of a stitched network with network 2's own.

    Own scores are those of samples that neither the reference (the moments of
    `mahalanobis`) nor the map has seen, one per image (`per_image`), not per position.
    An AUROC below 0.5 says that the scores are *smaller* than the own ones, as those of
    a least-squares map are, which draws towards the mean.

    Args:
        scores: (n,), of stitched activations; larger is further out. NaN counts as
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


def _scores(name: str, scores: Any) -> Array:
    scores = real(name, scores)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(
            f"{name}: expected one score per sample, shape (samples,), got "
            f"{scores.shape}; for positions take report.per_image({name})"
        )
    # Sorting needs them all in one place, and they are few.
    sharding = jax.typeof(scores).sharding
    if any(axis is not None for axis in sharding.spec):
        together = NamedSharding(sharding.mesh, PartitionSpec())
        scores = jax.sharding.reshard(scores, together)
    return scores


@jax.jit
def _compared(scores: Array, own: Array) -> OutOfDistribution:
    scores = jnp.where(jnp.isnan(scores), jnp.inf, scores)

    def beyond(share: float) -> Array:
        return (scores > jnp.quantile(own, share)).mean(dtype=scores.dtype)

    # The share of pairs in which a score is larger than an own one, ties half.
    ordered = jnp.sort(own)
    below = jnp.searchsorted(ordered, scores, side="left")
    not_above = jnp.searchsorted(ordered, scores, side="right")
    auroc = ((below + not_above) / (2 * own.size)).astype(scores.dtype).mean()
    return OutOfDistribution(
        scores.mean(), own.mean(), beyond(0.95), beyond(0.99), auroc
    )
