"""The multilayer perceptron."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn


class MLP(nn.Module):
    """Dense layers with ReLU between them, on the flattened input.

    Attributes:
      classes: the number of logits.
      features: the width of each hidden layer.
      dtype: what all layers but the last compute in; by default that of inputs and
        variables.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.zeros((2, 8, 8, 1))
      >>> variables = MLP(classes=10).init(jax.random.key(0), x)
      >>> MLP(classes=10).apply(variables, x).shape
      (2, 10)
    """

    classes: int
    features: Sequence[int] = (64, 64)
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map inputs (n, ...) to logits (n, classes)."""
        del train  # Nothing here behaves differently in training.
        x = inputs.reshape(len(inputs), -1)
        for width in self.features:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.classes)(x)
