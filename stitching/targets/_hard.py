"""Labels as a target."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from stitching.targets._soft import log_probabilities
from stitching.targets._target import Target


def hard(labels: Int[ArrayLike, "*n"]) -> Target:
    r"""Cross-entropy against labels.

    .. math::

        -\tfrac1n \sum_i \log \operatorname{softmax}(z_i)_{y_i}

    Args:
        labels: one an output: (samples,), or (samples, tokens) for a network that gives
            logits (samples, tokens, classes).

    Returns:
        The `Target`.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if there is none, or one is negative; when trained on, if one is not
            below the number of classes or they are not one an output.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> target = targets.hard(jnp.array([0, 1]))
        >>> round(float(target.loss(jnp.zeros((2, 4)), None)), 4)  # log 4
        1.3863
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected integers, got dtype {labels.dtype}")
    if labels.size == 0:
        raise ValueError(f"labels: expected at least 1, got shape {labels.shape}")
    if not isinstance(labels, Tracer) and int(labels.min()) < 0:
        raise ValueError(f"labels: expected at least 0, got {int(labels.min())}")
    return Hard(labels)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hard(Target):
    """Cross-entropy against labels."""

    labels: Int[Array, "*n"]

    def loss(self, logits, activation):
        del activation
        chosen = jnp.expand_dims(self.labels, -1)
        return -jnp.take_along_axis(log_probabilities(logits), chosen, axis=-1).mean()

    def check(self, logits, activation):
        del activation
        if self.labels.shape != logits.shape[:-1]:
            raise ValueError(
                f"target: expected labels of shape {logits.shape[:-1]}, one an output, "
                f"got {self.labels.shape}"
            )
        if isinstance(self.labels, Tracer):
            return
        if int(self.labels.max()) >= logits.shape[-1]:
            raise ValueError(
                f"target: expected labels below {logits.shape[-1]}, the classes of "
                f"network 2, got {int(self.labels.max())}"
            )
