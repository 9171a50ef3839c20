"""How far an activation lies from those that a network has itself."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._moments import Moments, real
from stitching.direct._fit import times


def mahalanobis(
    activation: Float[ArrayLike, "*samples q"],
    own: Moments,
    *,
    shrinkage: float = 1e-3,
) -> Float[Array, "*samples"]:
    r"""The squared Mahalanobis distance from a network's own activations, 1 on average.

    .. math::

        \frac{(a - \mu)^\top \Sigma_s^{-1} (a - \mu)}
             {\operatorname{tr}(\Sigma_s^{-1} \Sigma)}, \qquad
        \Sigma_s = (1 - s)\,\Sigma + s\,\tfrac{\operatorname{tr} \Sigma}{q}\,1

    with mean and covariance of the network's own activations. The unit is their mean
    squared distance: 1 is a typical own activation, 10 one whose deviations are about
    three times too large, or lie where the network's own hardly vary.

    Channels that are dead or depend on each other leave directions in which the own
    activations do not vary at all. The pseudo-inverse would not see an activation
    leave along them, which is just what a map trained through the frozen back may do.
    So the covariance is shrunk: along such a direction a deviation of √s (3 %) of the
    typical one counts as a deviation of 1.

    Invariant, of both activations together, to translation, isotropic scaling and
    orthogonal maps; without shrinkage to every invertible affine map.

    Args:
        activation: (..., q), channels last, for instance a stitched one. Each leading
            index is a sample: each position of a map by itself, against the positions
            of all maps (`per_image` puts them together).
        own: `stitching.moments(own)` of the network's own activation, or of a pair
            (network 1, network 2), of which network 2's are taken. They may have been
            merged from batches.
        shrinkage: s, in [0, 1]. At 0 directions without variance are left out.

    Returns:
        One number a sample, of shape (...), not negative.

    Raises:
        TypeError: if own are not `Moments`.
        ValueError: if the numbers of channels differ, shrinkage is out of range, or own
            moments that are not traced have no variance.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> from stitching import report
        >>> own = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
        >>> distances = report.mahalanobis(own, stitching.moments(own), shrinkage=0.0)
        >>> distances.round(3).tolist()
        [1.0, 1.0, 1.0, 1.0]
        >>> far = jnp.array([[3.0, 0.0]])
        >>> report.mahalanobis(far, stitching.moments(own), shrinkage=0.0).tolist()
        [9.0]

    References:
        As a score of what is out of distribution: Lee et al., 2018, arXiv 1807.03888.
        Shrinkage to this target: Ledoit and Wolf, 2004. The unit: ours.
    """
    mean, covariance = _of_network_2(own)
    activation = real("activation", activation)
    if activation.ndim < 1 or activation.shape[-1:] != mean.shape:
        raise ValueError(
            f"activation: expected {mean.size} channels on the last axis, as the own "
            f"moments have, got shape {activation.shape}"
        )
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage: expected a number in [0, 1], got {shrinkage}")
    return _distances(activation, mean, covariance, shrinkage)


@jax.jit
def _distances(
    activation: Array, mean: Array, covariance: Array, shrinkage: float
) -> Array:
    variances, axes = jnp.linalg.eigh(covariance)
    variances = variances.clip(min=0)
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
    kept = shrunk > 32 * jnp.finfo(shrunk.dtype).eps * shrunk.max()
    precisions = jnp.where(kept, 1 / jnp.where(kept, shrunk, 1), 0)
    deviations = times(activation - mean, axes)
    return times(deviations**2, precisions) / (precisions * variances).sum()


def per_image(scores: Float[ArrayLike, "n *positions"]) -> Float[Array, " n"]:
    """One score an image: the mean over its positions.

    Positions of an image depend on each other, so they are no samples of their own:
    shares and AUROCs are taken over images.

    Args:
        scores: (images, ...), one a position; (images,) stays as it is.

    Returns:
        Shape (images,).

    Raises:
        ValueError: if there is no axis of images.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> report.per_image(jnp.array([[[1.0, 3.0]], [[0.0, 0.0]]])).tolist()
        [2.0, 0.0]
    """
    scores = real("scores", scores)
    if scores.ndim < 1:
        raise ValueError("scores: expected shape (images, ...), got ()")
    return scores.mean(axis=tuple(range(1, scores.ndim)))


def _of_network_2(own: Moments) -> tuple[Array, Array]:
    """Mean and covariance of a network's own activation."""
    if not isinstance(own, Moments):
        raise TypeError(
            f"own: expected stitching.Moments, got {type(own).__name__}; compute "
            f"stitching.moments(own) of the network's own activation"
        )
    if own.yy.size:
        mean, covariance = own.mean_y, own.yy
    else:
        mean, covariance = own.mean_x, own.xx
    if not isinstance(covariance, Tracer) and not np.trace(covariance) > 0:
        raise ValueError(
            "own: expected an activation that varies, got moments without variance "
            "(one sample only, dead channels only, or NaN)"
        )
    return mean, covariance
