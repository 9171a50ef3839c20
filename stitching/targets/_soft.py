"""Another network's outputs as a target."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._moments import real
from stitching.targets._target import Target


def soft(logits: Float[ArrayLike, "*n k"], temperature: float = 1.0) -> Target:
    r"""Cross-entropy against the class probabilities that another network gives.

    .. math::

        -\tfrac{T^2}{n} \sum_i \operatorname{softmax}(\hat z_i / T) \cdot \log
        \operatorname{softmax}(z_i / T)

    The factor keeps gradients of one size as the temperature grows. The loss is lowest
    where the outputs agree, but not 0 there: it is the entropy of the target.

    Args:
        logits: of the other network for the samples, (samples, ..., classes); for
            instance `stitching.in_batches(model.apply, variables, x)`.
        temperature: T > 0; both outputs are divided by it.

    Returns:
        The `Target`.

    Raises:
        TypeError: if the logits are not real.
        ValueError: if they have no class axis or are not finite, or the temperature is
            not positive; when trained on, if the shape is not that of the outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> target = targets.soft(jnp.array([[100.0, 0.0]]), temperature=2.0)
        >>> round(float(target.loss(jnp.zeros((1, 2)), None)), 4)  # 4 log 2
        2.7726

    References:
        Hinton, Vinyals and Dean, 2015, arXiv 1503.02531.
    """
    logits = real("logits", logits)
    if logits.ndim < 2 or logits.size == 0:
        raise ValueError(
            f"logits: expected shape (samples, ..., classes), got {logits.shape}"
        )
    if not isinstance(logits, Tracer) and not bool(jnp.isfinite(logits).all()):
        raise ValueError("logits: expected finite numbers, got NaN or infinity")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature: expected a positive number, got {temperature}")
    return Soft(jax.nn.softmax(logits / temperature), float(temperature))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Soft(Target):
    """Cross-entropy against probabilities, at a temperature."""

    probabilities: Float[Array, "*n k"]
    temperature: float = dataclasses.field(metadata={"static": True})

    def loss(self, logits, activation):
        del activation
        logs = log_probabilities(logits, self.temperature)
        return -(self.temperature**2) * (self.probabilities * logs).sum(axis=-1).mean()

    def check(self, logits, activation):
        del activation
        if self.probabilities.shape != logits.shape:
            raise ValueError(
                f"target: expected soft outputs of shape {logits.shape}, as network 2 "
                f"gives, got {self.probabilities.shape}"
            )


def log_probabilities(
    logits: Float[Array, "*n k"], temperature: float = 1.0
) -> Float[Array, "*n k"]:
    """log softmax(z / T), at least in float32."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.log_softmax(logits / temperature)
