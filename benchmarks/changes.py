"""A task that changes while it is learned."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Change:
    """A new permutation of the labels or inputs in every phase of training.

    Phase 0 is the task itself. The permutations are the same in every run (ours).

    Attributes:
        what: "labels" permutes the classes, "inputs" the entries of images and vectors,
            the same for all rows.
        every: steps per phase.
        classes: the number of classes.

    Example:
        >>> from benchmarks.data import Split
        >>> data = Split(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([2]))
        >>> change = Change("labels", every=100, classes=10)
        >>> [int(change(data, step).targets[0]) for step in (0, 99, 100, 199, 200)]
        [2, 2, 9, 9, 3]
    """

    what: Literal["labels", "inputs"]
    every: int
    classes: int

    def __call__(self, data: Any, step: jax.typing.ArrayLike) -> Any:
        """Return rows as they are in the phase of a step, counted from 0."""
        phase = jnp.asarray(step) // self.every
        shape = data.inputs.shape
        size = self.classes if self.what == "labels" else math.prod(shape[1:])
        order = jax.random.permutation(
            jax.random.fold_in(jax.random.key(0), phase), size
        )
        order = jnp.where(phase == 0, jnp.arange(size), order)
        if self.what == "labels":
            return data._replace(targets=order[data.targets])
        entries = data.inputs.reshape(len(data.inputs), -1)[:, order]
        return data._replace(inputs=entries.reshape(shape))
