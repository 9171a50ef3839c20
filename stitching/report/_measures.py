"""All measures of a stitched network against another, together."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from stitching.report._accuracy import (
    accuracy,
    agreement,
    hits_table,
    relative_accuracy,
)
from stitching.report._cross_entropy import cross_entropy
from stitching.report._logits import Labels, Logits, fitting, pair, positive


class Measures(NamedTuple):
    """What `measures` finds.

    Attributes:
        accuracy: of the stitched network.
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
    stitched: Logits, reference: Logits, labels: Labels, *, temperature: Any = 1.0
) -> Measures:
    """How a stitched network does the task, and how near it is to another network.

    The logits of a whole test set are small: compute them in batches, put them
    together, and measure once. Runs under `jit` and `vmap`, so over many stitches at
    once, and wherever the samples lie.

    Args:
        stitched: (..., classes), logits of the stitched network; each leading index is
            a sample.
        reference: of the same samples, those of network 2; call again with those of
            network 1 to learn what came from there.
        labels: (...), the right classes.
        temperature: of the cross-entropy, above 0.

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
    stitched, reference = pair(stitched, reference)
    positive("temperature", temperature)
    return _measures(stitched, reference, fitting(labels, stitched), temperature)


@jax.jit
def _measures(
    stitched: Array, reference: Array, labels: Array, temperature: Any
) -> Measures:
    return Measures(
        accuracy=accuracy(stitched, labels),
        reference_accuracy=accuracy(reference, labels),
        relative_accuracy=relative_accuracy(stitched, reference, labels),
        agreement=agreement(stitched, reference),
        cross_entropy=cross_entropy(stitched, reference, temperature),
        reference_entropy=cross_entropy(reference, reference, temperature),
        hits=hits_table(stitched, reference, labels=labels),
    )
