"""What all targets have in common."""

import dataclasses
import math
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree


class Target:
    """What a stitched network is compared with: a loss, sample by sample or in batches.

    A tree of arrays whose leading axis is that of the samples, so that minibatches are
    taken out of it; whatever else it holds is static. Targets add (`+`) and are scaled
    by numbers (`*`). A class of one's own derives from this one and is registered with
    `jax.tree_util.register_dataclass`.
    """

    def loss(
        self, logits: Float[Array, "*n k"], activation: PyTree
    ) -> Float[Array, ""]:
        """The mean loss of a minibatch, of which this target is that of its samples.

        Args:
            logits: what the stitched network gives.
            activation: what the stitching layer gives.
        """
        raise NotImplementedError

    def check(self, logits: jax.ShapeDtypeStruct, activation: PyTree) -> None:
        """Raises a ValueError unless it fits what all samples give, by its shape."""

    def __add__(self, other: "Target") -> "Target":
        """The sum of two losses."""
        if not isinstance(other, Target):
            return NotImplemented
        return Sum((1.0, 1.0), (self, other))

    def __mul__(self, weight: float) -> "Target":
        """The loss, scaled.

        Raises:
            ValueError: if the weight is negative or not finite.
        """
        if not isinstance(weight, int | float):
            return NotImplemented
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"weight: expected a finite number, at least 0, got {weight}"
            )
        return Sum((float(weight),), (self,))

    __rmul__ = __mul__


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum(Target):
    """A weighted sum of targets."""

    weights: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    terms: tuple[Any, ...]

    def loss(self, logits, activation):
        terms = zip(self.weights, self.terms, strict=True)
        losses = [weight * term.loss(logits, activation) for weight, term in terms]
        return sum(losses[1:], losses[0])

    def check(self, logits, activation):
        for term in self.terms:
            term.check(logits, activation)
