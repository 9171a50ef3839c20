"""A small convolutional network in the manner of LeNet."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn


class CNN(nn.Module):
    """Twice a convolution (3×3, ReLU) and a 2×2 maximum, then two dense layers.

    Attributes:
      classes: the number of logits.
      channels: the width of each convolution.
      features: the width of the hidden dense layer.
      dtype: what all layers but the last compute in; by default that of inputs and
        variables.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to
    document recognition", 1998, for the order of the layers.
    """

    classes: int
    channels: Sequence[int] = (16, 32)
    features: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map images (n, height, width, channels) to logits (n, classes)."""
        del train  # Nothing here behaves differently in training.
        x = inputs
        for width in self.channels:
            x = nn.relu(nn.Conv(width, (3, 3), dtype=self.dtype)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(self.features, dtype=self.dtype)(x))
        return nn.Dense(self.classes)(x)
