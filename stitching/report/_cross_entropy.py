"""How far a network's distribution over classes is from another's."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching.report._logits import Logits, pair, positive


def cross_entropy(
    stitched: Logits, reference: Logits, temperature: Any = 1.0
) -> Float[Array, ""]:
    r"""The mean cross-entropy of the stitched network against another's soft outputs.

    .. math::

        -\frac1n \sum_i \sum_c p_{ic} \log q_{ic}, \qquad
        p = \operatorname{softmax}(r / T), \quad q = \operatorname{softmax}(s / T)

    with the logits r of the reference and s of the stitched network. At least the
    entropy of the reference, `cross_entropy(reference, reference)`, which it reaches
    where the distributions are equal; what is above is their Kullback-Leibler
    divergence.

    Args:
        stitched: (..., classes), logits of the stitched network.
        reference: of the same samples, those of network 2 (or of network 1).
        temperature: T, above 0; a large one weighs the classes that are not predicted.

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
        >>> round(float(report.cross_entropy(own, own)), 4)  # the entropy
        0.5623

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """
    positive("temperature", temperature)
    return _cross_entropy(*pair(stitched, reference), temperature)


@jax.jit
def _cross_entropy(stitched: Array, reference: Array, temperature: Any) -> Array:
    stitched, reference = (
        jax.nn.log_softmax(each / temperature) for each in (stitched, reference)
    )
    # What has no probability does not count, though its logarithm be infinite.
    probabilities = jnp.exp(reference)
    terms = jnp.where(probabilities == 0, 0, probabilities * stitched)
    return -terms.sum(axis=-1).mean()
