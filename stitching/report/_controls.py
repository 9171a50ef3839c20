"""What a procedure of stitching gives where the answer is known."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from stitching._checks import real, sample_weights, without_masked
from stitching._linear import times
from stitching._moments import moments
from stitching.report._measures import Weights
from stitching.similarity._samples import with_two_axes

# Activations of samples for the fit, and of others that are held out.
Split = tuple[Any, Any]


class Controls(NamedTuple):
    """What the procedure gave for each control of `controls`.

    Attributes:
        self_stitch: network 2 stitched to itself. A shortfall from a relative accuracy
            of 1 is the method's own error: too few samples, too small a class of maps,
            too few steps.
        shuffled: activations of network 1 on *other* inputs: at chance, or the labels
            leak.
        noise: Gaussian noise of network 1's mean and covariance. At chance as well;
            above it, map and back do the task without network 1.
        untrained: network 1 with fresh variables, or None. Only what a trained network
            1 achieves beyond its random features is due to training.
    """

    self_stitch: Any
    shuffled: Any
    noise: Any
    untrained: Any


def controls(
    stitch: Callable[[Any, Any], Any],
    source: Split,
    own: Split,
    *,
    key: PRNGKeyArray,
    untrained: Split | None = None,
    weights: Split | None = None,
) -> Controls:
    """Run a procedure of stitching where it must succeed and where it must fail.

    Args:
        stitch: stitch(seen, held_out) takes activations in place of network 1's, fits
            its map on the first (to network 2's activations or the labels of the same
            samples), and returns what it measures on the second: `Measures`, an
            accuracy, any tree.
        source: network 1's activations (seen, held_out) at its cut, (images, ...,
            channels).
        own: network 2's at its cut, of the same samples: the source of `self_stitch`.
        key: for shuffling and noise.
        untrained: as `source`, of network 1 with fresh variables; by default there is
            no such control.
        weights: of the samples (seen, held_out), each as for `shuffled`, or None. The
            shuffled activations and the noise are like those of weight above 0.

    Returns:
        `Controls`.

    Raises:
        TypeError, ValueError: if an activation has no channels or samples, or weights
            do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, stitching
        >>> from stitching import report
        >>> x = jax.random.normal(jax.random.key(0), (80, 2))
        >>> source, own = (x[:40], x[40:]), (x[:40] ** 3, x[40:] ** 3)
        >>> def stitch(seen, held_out):  # held-out R² of least squares
        ...     fit = stitching.least_squares(stitching.moments(seen, own[0]))
        ...     return stitching.r_squared(fit, stitching.moments(held_out, own[1]))
        >>> found = report.controls(stitch, source, own, key=jax.random.key(1))
        >>> round(float(found.self_stitch), 3), bool(found.noise < 0.2)
        (1.0, True)
    """
    keys = jax.random.split(key, (2, 2))
    given = [None, None] if weights is None else weights

    def drawn(control: Callable[..., Array], keys: PRNGKeyArray) -> list[Array]:
        each = zip(keys, source, given, strict=True)
        return [control(key, x, weights=known) for key, x, known in each]

    return Controls(
        self_stitch=stitch(*own),
        shuffled=stitch(*drawn(shuffled, keys[0])),
        noise=stitch(*drawn(gaussian_noise, keys[1])),
        untrained=None if untrained is None else stitch(*untrained),
    )


def shuffled(
    key: PRNGKeyArray,
    activation: Float[ArrayLike, "n *features"],
    *,
    weights: Weights = None,
) -> Float[Array, "n *features"]:
    """Permute the activations of images.

    Their distribution stays exactly as it was; what each says of its input is lost.
    Images are moved whole; where masks differ (sequences of different lengths), the
    positions that count are put one image after another into the places that count.

    Args:
        key: a random key.
        activation: (images, ..., channels).
        weights: at least 0, over the leading axes or the first of them; all 1 by
            default. Positions of weight 0 do not change places with others.

    Returns:
        The same shape.

    Raises:
        TypeError, ValueError: if there are fewer than two axes, or weights do not fit.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import report
        >>> x = jnp.arange(4.0)[:, None]
        >>> report.shuffled(jax.random.key(1), x).ravel().tolist()
        [3.0, 2.0, 0.0, 1.0]
        >>> mask = jnp.array([1, 0, 1, 1])
        >>> report.shuffled(jax.random.key(1), x, weights=mask).ravel().tolist()
        [3.0, 1.0, 2.0, 0.0]
    """
    activation = with_two_axes(activation)
    if weights is None:
        return jax.random.permutation(key, activation)
    counts = sample_weights(weights, activation.shape[:-1]).ravel() > 0
    rows = activation.reshape(counts.size, -1)
    places = jnp.arange(counts.size).reshape(len(activation), -1)
    sources = jax.random.permutation(key, places).ravel()
    # What counts comes first in both, and is as much in both.
    sources = sources[jnp.argsort(~counts[sources], stable=True)]
    places = jnp.argsort(~counts, stable=True)
    return rows.at[places].set(rows[sources]).reshape(activation.shape)


def gaussian_noise(
    key: PRNGKeyArray,
    activation: Float[ArrayLike, "*samples p"],
    *,
    weights: Weights = None,
) -> Float[Array, "*samples p"]:
    """Draw Gaussian noise with the mean and covariance of an activation's channels.

    Each position of a map is drawn independently: dependence between neighbours is
    lost, as is all that is not Gaussian (values are negative behind a ReLU, too).

    Args:
        key: a random key.
        activation: (..., channels).
        weights: as for `stitching.moments`; the noise is 0 where they are.

    Returns:
        The same shape.

    Raises:
        TypeError, ValueError: as for `stitching.moments`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import report
        >>> x = jnp.array([[0.0, 1.0], [4.0, 1.0]] * 500)
        >>> noise = report.gaussian_noise(jax.random.key(0), x)
        >>> noise.mean(0).round(0).tolist(), noise.std(0).round(0).tolist()
        ([2.0, 1.0], [2.0, 0.0])
    """
    activation = real("activation", activation)
    if weights is not None:
        weights = sample_weights(weights, activation.shape[:-1])
    return _gaussian_noise(key, activation, weights)


@jax.jit
def _gaussian_noise(
    key: PRNGKeyArray, activation: Array, weights: Array | None
) -> Array:
    seen = moments(activation, weights=weights)
    variances, axes = jnp.linalg.eigh(seen.xx)
    root = axes * jnp.sqrt(variances.clip(min=0))
    white = jax.random.normal(key, activation.shape, root.dtype)
    return without_masked(seen.mean_x + times(white, root.T), weights)
