"""How often networks predict the right class, or the same one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stitching.report._logits import (
    Labels,
    Logits,
    checked,
    fitting,
    pair,
    predicted,
)


def accuracy(logits: Logits, labels: Labels) -> Float[Array, ""]:
    """The share of samples whose highest logit is that of the right class.

    A sample with a NaN among its logits is a miss, so a stitch that diverged has
    accuracy 0 and a sweep over many goes on.

    Args:
        logits: (..., classes); each leading index is a sample.
        labels: (...), the right classes.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError: if the labels are not integers, or the logits not real.
        ValueError: if shapes do not fit, or a label that is not traced is no class.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> float(report.accuracy(logits, jnp.array([0, 0])))
        0.5
    """
    logits = checked("logits", logits)
    return _accuracy(logits, fitting(labels, logits))


@jax.jit
def _accuracy(logits: Array, labels: Array) -> Array:
    return (predicted(logits) == labels).mean(dtype=logits.dtype)


def relative_accuracy(
    stitched: Logits, reference: Logits, labels: Labels
) -> Float[Array, ""]:
    """The accuracy of the stitched network, with that of another network as unit.

    Against network 2 it tells how much of its performance is left when the
    activations of network 1, mapped, take the place of its own: 1 is all. The map may
    add to what network 1 knows, so values above 1 occur. It alone does not say that
    the activations are alike: compare `audit`.

    Args:
        stitched: (..., classes), logits of the stitched network.
        reference: of the same samples, those of network 2 (or of network 1).
        labels: (...), the right classes.

    Returns:
        A scalar, not negative; NaN where the reference hits nothing.

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
    stitched, reference = pair(stitched, reference)
    return _relative_accuracy(stitched, reference, fitting(labels, stitched))


@jax.jit
def _relative_accuracy(stitched: Array, reference: Array, labels: Array) -> Array:
    unit = _accuracy(reference, labels)
    share = _accuracy(stitched, labels) / jnp.where(unit > 0, unit, 1)
    return jnp.where(unit > 0, share, jnp.nan)


def agreement(stitched: Logits, reference: Logits) -> Float[Array, ""]:
    """The share of samples that two networks put into the same class.

    Stricter than accuracy: a stitched network that is as good as network 2 but errs
    elsewhere computes another function. Two networks of one task that were trained from
    different seeds agree on nearly all that both get right; compare with their
    agreement.

    Args:
        stitched: (..., classes), logits of the stitched network.
        reference: of the same samples, those of network 2 (or of network 1).

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
    return _agreement(*pair(stitched, reference))


@jax.jit
def _agreement(stitched: Array, reference: Array) -> Array:
    classes = predicted(stitched)
    same = (classes == predicted(reference)) & (classes >= 0)
    return same.mean(dtype=stitched.dtype)


def hits_table(*networks: Logits, labels: Labels) -> Int[Array, "2 2"]:
    """How many samples are hit and missed by which of some networks.

    Of two networks, `table[i, j]` counts the samples with outcome i of the first and j
    of the second, 0 a miss and 1 a hit: `table[1, 0]` is what only the first gets
    right. Of three (stitched, network 1, network 2) `table[1, 1, 0]` are the samples
    where the stitched network is right with network 1 against network 2: the knowledge
    of network 1 that came through. Counts of batches add up to those of all samples.

    Args:
        *networks: logits (..., classes) of each, on the same samples.
        labels: (...), the right classes.

    Returns:
        Whole numbers, of shape (2, 2) for two networks, (2, 2, 2) for three, and so on.

    Raises:
        TypeError: if the labels are not integers, or logits not real.
        ValueError: if there is no network, shapes do not fit, or a label that is not
            traced is no class.

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
    arrays = [checked(f"networks[{i}]", each) for i, each in enumerate(networks)]
    shapes = {each.shape for each in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"networks: expected logits of the same samples and classes, got shapes "
            f"{', '.join(map(str, sorted(shapes)))}"
        )
    return _hits_table(arrays, fitting(labels, arrays[0]))


@jax.jit
def _hits_table(networks: list[Array], labels: Array) -> Array:
    cell = jnp.zeros(labels.shape, jnp.int32)
    for each in networks:
        cell = 2 * cell + (predicted(each) == labels)
    cells = jnp.arange(2 ** len(networks))
    counts = (cell.reshape(-1, 1) == cells).sum(axis=0)
    return counts.reshape((2,) * len(networks))
