"""How well a stitched network does the task, and how close it is to another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from stitching._checks import eager, positive, real, sample_weights, with_axes

# Each leading index is a sample.
Logits = Float[ArrayLike, "*samples classes"]
Labels = Int[ArrayLike, "*samples"]
Values = Float[ArrayLike, "*samples channels"]
Weights = Float[ArrayLike, "*leading"] | None


def accuracy(
    logits: Logits, labels: Labels, *, weights: Weights = None
) -> Float[Array, ""]:
    """Return the share of samples whose highest logit is that of the right class.

    A sample with a NaN among its logits is a miss, so a stitch that diverged has
    accuracy 0 and a sweep over many goes on.

    Args:
        logits: (..., classes); each leading index is a sample.
        labels: (...), the right classes.
        weights: of the samples, at least 0, over the leading axes or the first of them;
            all 1 by default. A mask leaves samples out, whatever they hold.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError: if the labels are not integers, or the logits not real.
        ValueError: if shapes do not fit, a label that is not traced is not a class, or
            weights are negative, not finite or all 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> float(report.accuracy(logits, jnp.array([0, 0])))
        0.5
    """
    (array,), known = checked_logits({"logits": logits}, weights)
    return _accuracy(array, _checked_labels(labels, array, known), known)


@jax.jit
def _accuracy(logits: Array, labels: Array, weights: Array | None) -> Array:
    return _share(_predicted(logits) == labels, logits.dtype, weights)


def relative_accuracy(
    stitched: Logits, reference: Logits, labels: Labels, *, weights: Weights = None
) -> Float[Array, ""]:
    """Return the accuracy of the stitched network relative to another network's.

    1 says that nothing is lost where mapped activations of network 1 replace network
    2's own; the map may add to them, so values above 1 occur. It alone does not say
    that the activations are similar: see `audit`.

    Args:
        stitched, reference: (..., classes), logits of the stitched network and of
            network 2 (or network 1) on the same samples.
        labels: (...), the right classes.
        weights: as for `accuracy`.

    Returns:
        A scalar, not negative; NaN where the reference is never right.

    Raises:
        TypeError, ValueError: as for `accuracy`, or if the shapes of the logits differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> own = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> stitched = jnp.array([[2.0, 1.0], [4.0, 3.0]])
        >>> float(report.relative_accuracy(stitched, own, jnp.array([0, 1])))
        0.5

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """
    return measures(stitched, reference, labels, weights=weights).relative_accuracy


def agreement(
    stitched: Logits, reference: Logits, *, weights: Weights = None
) -> Float[Array, ""]:
    """Return the share of samples for which two networks predict the same class.

    Stricter than accuracy: a stitched network that is as good as network 2 but makes
    other errors computes another function.

    Args:
        stitched, reference: logits, as for `relative_accuracy`.
        weights: as for `accuracy`.

    Returns:
        A scalar in [0, 1]; a sample with a NaN among its logits agrees with none.

    Raises:
        TypeError, ValueError: if the logits are not real, or shapes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> own = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> float(report.agreement(5 * own, own)), float(report.agreement(-own, own))
        (1.0, 0.0)

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """
    return _agreement(*_checked_pair(stitched, reference, weights))


@jax.jit
def _agreement(stitched: Array, reference: Array, weights: Array | None) -> Array:
    classes = _predicted(stitched)
    same = (classes == _predicted(reference)) & (classes >= 0)
    return _share(same, stitched.dtype, weights)


def hits_table(
    *networks: Logits, labels: Labels, weights: Weights = None
) -> Int[Array, "2 2"]:
    """Count the samples that each of some networks gets right or wrong.

    Of two networks, `table[i, j]` counts the samples with outcome i of the first and j
    of the second, 0 a miss and 1 a hit. Of three (stitched, network 1, network 2)
    `table[1, 1, 0]` are the samples where the stitched network is right with network 1
    against network 2. Counts of batches add up to those of all samples.

    Args:
        *networks: logits (..., classes) of each, on the same samples.
        labels: (...), the right classes.
        weights: as for `accuracy`; samples count as much.

    Returns:
        Whole numbers (sums of weights, if there are any), of shape (2, 2) for two
        networks, (2, 2, 2) for three, and so on.

    Raises:
        TypeError, ValueError: as for `accuracy`, or if there is no network, or the
            shapes of the logits differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> own = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
        >>> stitched = jnp.array([[2.0, 1.0], [4.0, 3.0], [1.0, 0.0]])
        >>> report.hits_table(stitched, own, labels=jnp.array([0, 1, 1])).tolist()
        [[1, 1], [0, 1]]

    References:
        Csiszárik et al., 2021, arXiv 2110.14633. Of three networks: ours.
    """
    if not networks:
        raise ValueError("networks: expected logits of at least one network, got none")
    named = {f"networks[{i}]": each for i, each in enumerate(networks)}
    arrays, known = checked_logits(named, weights)
    return _hits_table(arrays, _checked_labels(labels, arrays[0], known), known)


@jax.jit
def _hits_table(networks: list[Array], labels: Array, weights: Array | None) -> Array:
    cell = jnp.zeros(labels.shape, jnp.int32)
    for each in networks:
        cell = 2 * cell + (_predicted(each) == labels)
    counted = cell.reshape(-1, 1) == jnp.arange(2 ** len(networks))
    if weights is not None:
        counted = counted * weights.reshape(-1, 1)
    return counted.sum(axis=0).reshape((2,) * len(networks))


def cross_entropy(
    stitched: Logits,
    reference: Logits,
    temperature: Any = 1.0,
    *,
    weights: Weights = None,
) -> Float[Array, ""]:
    r"""Return the mean cross-entropy against another network's soft outputs.

    .. math::

        -\frac1n \sum_i \sum_c p_{ic} \log q_{ic}, \qquad
        p = \operatorname{softmax}(r / T), \quad q = \operatorname{softmax}(s / T)

    with the logits r of the reference and s of the stitched network. At least the
    entropy of the reference, `cross_entropy(reference, reference)`, which it reaches
    where the distributions are equal; what is above is their Kullback-Leibler
    divergence.

    Args:
        stitched, reference: logits, as for `relative_accuracy`.
        temperature: T, above 0; a large one emphasises classes that are not predicted.
        weights: as for `accuracy`.

    Returns:
        A scalar in nats, not negative.

    Raises:
        TypeError, ValueError: if the logits are not real, shapes differ, or a
            temperature that is not traced is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> own = jnp.log(jnp.array([[0.75, 0.25]]))
        >>> round(float(report.cross_entropy(jnp.zeros((1, 2)), own)), 4)  # ln 2
        0.6931

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """
    positive("temperature", temperature)
    stitched, reference, weights = _checked_pair(stitched, reference, weights)
    return _cross_entropy(stitched, reference, temperature, weights)


@jax.jit
def _cross_entropy(
    stitched: Array, reference: Array, temperature: Any, weights: Array | None
) -> Array:
    stitched, reference = (
        jax.nn.log_softmax(each / temperature) for each in (stitched, reference)
    )
    # A class of probability 0 does not count, even if its logarithm is infinite.
    probabilities = jnp.exp(reference)
    terms = jnp.where(probabilities == 0, 0, probabilities * stitched)
    return -_mean(terms.sum(axis=-1)[..., None], weights)[0]


class Measures(NamedTuple):
    """What `measures` finds.

    Attributes:
        accuracy: of the stitched network; larger is better.
        reference_accuracy: of the other.
        relative_accuracy: the first over the second; NaN where the second is 0.
        agreement: share of samples with the same predicted class.
        cross_entropy: against the other's soft outputs, in nats.
        reference_entropy: the least that the cross-entropy can be.
        hits: counts, [misses or hits of the stitched, misses or hits of the other].
    """

    accuracy: Float[Array, ""]
    reference_accuracy: Float[Array, ""]
    relative_accuracy: Float[Array, ""]
    agreement: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    reference_entropy: Float[Array, ""]
    hits: Int[Array, "2 2"]


def measures(
    stitched: Logits,
    reference: Logits,
    labels: Labels,
    *,
    temperature: Any = 1.0,
    weights: Weights = None,
) -> Measures:
    """Measure how well a stitched network classifies, and how close it is to another.

    The logits of a whole test set are small: compute them in batches, put them
    together, and measure once. Runs under `jit` and `vmap`, so over many stitches at
    once, and on sharded samples.

    Args:
        stitched, reference, labels: as for `relative_accuracy`; call again with the
            logits of network 1 to learn what came from there.
        temperature: of the cross-entropy, above 0.
        weights: as for `accuracy`.

    Returns:
        `Measures`.

    Raises:
        TypeError, ValueError: if logits or labels do not fit, or the temperature is not
            positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> own = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> found = report.measures(own, own, jnp.array([0, 1]))
        >>> float(found.relative_accuracy), found.hits.tolist()
        (1.0, [[0, 0], [0, 2]])
    """
    positive("temperature", temperature)
    one, other, known = _checked_pair(stitched, reference, weights)
    labels = _checked_labels(labels, one, known)
    return _measures(one, other, labels, temperature, known)


@jax.jit
def _measures(stitched, reference, labels, temperature, weights) -> Measures:
    found, own = (_accuracy(each, labels, weights) for each in (stitched, reference))
    return Measures(
        accuracy=found,
        reference_accuracy=own,
        relative_accuracy=_ratio(found, own),
        agreement=_agreement(stitched, reference, weights),
        cross_entropy=_cross_entropy(stitched, reference, temperature, weights),
        reference_entropy=_cross_entropy(reference, reference, temperature, weights),
        hits=_hits_table([stitched, reference], labels, weights),
    )


class RegressionMeasures(NamedTuple):
    """What `regression_measures` finds; R² is larger where a network is better.

    Attributes:
        r_squared: of the stitched network.
        reference_r_squared: of the other.
        relative_r_squared: the first over the second; NaN where the second is not
            above 0.
        agreement: R² of the stitched network's outputs against the other's.
        squared_error: mean over samples and channels, of the stitched network.
        reference_squared_error: of the other.
        samples: the number of outputs, or the sum of their weights.
    """

    r_squared: Float[Array, ""]
    reference_r_squared: Float[Array, ""]
    relative_r_squared: Float[Array, ""]
    agreement: Float[Array, ""]
    squared_error: Float[Array, ""]
    reference_squared_error: Float[Array, ""]
    samples: Float[Array, ""]


def regression_measures(
    stitched: Values, reference: Values, values: Values, *, weights: Weights = None
) -> RegressionMeasures:
    """Measure how well a stitched network regresses, and how close it is to another.

    Args:
        stitched, reference: (..., channels), or (samples,), outputs of the stitched
            network and of network 2 for the same samples.
        values: the right ones.
        weights: as for `r_squared`.

    Returns:
        `RegressionMeasures`.

    Raises:
        TypeError, ValueError: as for `r_squared`.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> values = jnp.array([0.0, 1.0, 2.0])
        >>> stitched = jnp.array([0.0, 1.0, 1.0])
        >>> found = report.regression_measures(stitched, values, values)
        >>> float(found.relative_r_squared), float(found.agreement)
        (0.5, 0.5)
    """
    stitched, values, weights = _checked_values("stitched", stitched, values, weights)
    reference, *_ = _checked_values("reference", reference, values, None)
    return _regression_measures(stitched, reference, values, weights)


@jax.jit
def _regression_measures(stitched, reference, values, weights) -> RegressionMeasures:
    found, own = (_r_squared(each, values, weights) for each in (stitched, reference))
    samples = values.shape[: max(1, values.ndim - 1)]
    return RegressionMeasures(
        r_squared=found,
        reference_r_squared=own,
        relative_r_squared=_ratio(found, own),
        agreement=_r_squared(stitched, reference, weights),
        squared_error=_squares(stitched, values, weights).mean(),
        reference_squared_error=_squares(reference, values, weights).mean(),
        samples=(jnp.ones(samples, values.dtype) if weights is None else weights).sum(),
    )


def r_squared(
    outputs: Values, values: Values, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the share of the variance of values that outputs explain.

    .. math::

        R^2 = 1 - \frac{\sum_i w_i \|z_i - y_i\|^2}{\sum_i w_i \|y_i - \bar y\|^2}

    with the weighted mean of each channel, all channels together. On samples that
    something was fitted on it is too high.

    Args:
        outputs: (..., channels), or (samples,), of a network for regression.
        values: of the same shape: the right ones, or another network's outputs.
        weights: as for `accuracy`, over the leading axes but that of channels.

    Returns:
        A scalar, at most 1; negative where the mean of the values is closer, NaN where
        they do not vary.

    Raises:
        TypeError: if an array is not real.
        ValueError: if shapes do not fit, there are no samples, or weights are negative,
            not finite or all 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> values = jnp.array([0.0, 1.0, 2.0])
        >>> float(report.r_squared(jnp.array([0.0, 1.0, 1.0]), values))
        0.5
    """
    return _r_squared(*_checked_values("outputs", outputs, values, weights))


@jax.jit
def _r_squared(outputs: Array, values: Array, weights: Array | None) -> Array:
    mean = jnp.broadcast_to(_mean(values, weights), values.shape)
    variance = _squares(values, mean, weights).mean()
    error = _squares(outputs, values, weights).mean()
    varies = _varies(values, weights) & (variance > 0)
    return jnp.where(varies, 1 - error / variance, jnp.nan)


def _share(seen: Array, dtype: Any, weights: Array | None) -> Array:
    """The share of samples that are so."""
    return _mean(seen.astype(dtype)[..., None], weights)[0]


def _squares(one: Array, other: Array, weights: Array | None) -> Array:
    """The mean squared difference of each channel."""
    return _mean((one - other) ** 2, weights)


def _mean(values: Array, weights: Array | None) -> Array:
    """The mean over samples: all axes that weights have, or would have."""
    axes = tuple(range(max(1, values.ndim - 1)))
    if weights is None:
        return values.mean(axis=axes)
    weights = with_axes(weights, values.ndim)
    terms = jnp.where(weights > 0, weights * values, 0)
    return terms.sum(axis=axes) / weights.sum()


def _varies(values: Array, weights: Array | None) -> Array:
    """Whether any channel varies: exactly, as a variance would be rounded."""
    axes = tuple(range(max(1, values.ndim - 1)))
    counts = jnp.asarray(True) if weights is None else weights > 0
    counts = with_axes(counts, values.ndim)
    lowest = values.min(axis=axes, where=counts, initial=jnp.inf)
    highest = values.max(axis=axes, where=counts, initial=-jnp.inf)
    return (lowest != highest).any()


def _ratio(found: Array, own: Array) -> Array:
    """One measure relative to another, which should be above 0."""
    return jnp.where(own > 0, found / jnp.where(own > 0, own, 1), jnp.nan)


def _predicted(logits: Array) -> Int[Array, "*samples"]:
    """The class of the highest logit, the first of equal ones; −1 where one is NaN."""
    return jnp.where(jnp.isnan(logits).any(axis=-1), -1, logits.argmax(axis=-1))


def checked_weights(weights: Any, samples: tuple[int, ...]) -> Array | None:
    """Return weights of all samples; raise unless they fit and one is above 0."""
    if weights is None:
        return None
    weights = sample_weights(weights, samples)
    if not isinstance(weights, Tracer) and not (np.asarray(weights) > 0).any():
        raise ValueError("weights: expected at least one above 0, got none")
    return weights


def checked_logits(
    logits: dict[str, Any], weights: Any
) -> tuple[list[Array], Array | None]:
    """Return logits of the same samples and their weights; raise unless they fit."""
    arrays = [real(name, each) for name, each in logits.items()]
    for name, array in zip(logits, arrays, strict=True):
        if array.ndim < 2 or array.size == 0:
            raise ValueError(
                f"{name}: expected logits of shape (samples, classes), neither empty, "
                f"got {array.shape}"
            )
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{name}: expected logits of the same samples and classes as "
                f"{next(iter(logits))} has, {arrays[0].shape}, got {array.shape}"
            )
    return arrays, checked_weights(weights, arrays[0].shape[:-1])


def _checked_pair(stitched: Any, reference: Any, weights: Any) -> Any:
    given = {"stitched": stitched, "reference": reference}
    arrays, weights = checked_logits(given, weights)
    return *arrays, weights


def _checked_labels(labels: Any, logits: Array, weights: Array | None) -> Array:
    """Labels of the samples of some logits; 0 where a sample has no weight."""
    with eager(labels):
        labels, classes = jnp.asarray(labels), logits.shape[-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels: expected integers, got {labels.dtype}; from one-hot labels take "
            f"labels.argmax(-1)"
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels: expected shape {logits.shape[:-1]}, that of the logits without "
            f"classes, got {labels.shape}"
        )
    if weights is not None:
        with eager(labels, weights):
            labels = jnp.where(weights > 0, labels, 0)
    if not isinstance(labels, Tracer):
        known = np.asarray(labels)
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels: expected classes from 0 to {classes - 1}, got {low} to {high}"
            )
    return labels


def _checked_values(name: str, outputs: Any, values: Any, weights: Any) -> Any:
    """Outputs, values and weights that fit each other."""
    outputs, values = real(name, outputs), real("values", values)
    if outputs.ndim < 1 or outputs.size == 0 or outputs.shape != values.shape:
        raise ValueError(
            f"{name} and values: expected the same shape (samples, ...), not empty, "
            f"got {outputs.shape} and {values.shape}"
        )
    samples = values.shape[: max(1, values.ndim - 1)]
    return outputs, values, checked_weights(weights, samples)
