"""VGG networks for small images."""

import functools
from typing import Any

import jax
from flax import linen as nn

from benchmarks.models._layers import Norm, check_norm, convolution, normalisation

# The convolutions of each stage, by the number of layers with weights in the original,
# whose last three were dense.
_STAGES = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """Five stages of 3×3 convolutions, each stage ended by a 2×2 maximum.

    A normalisation and ReLU follow each convolution. The stages have 1, 2, 4, 8 and 8
    times `width` channels; images of 32×32 end in one position. One dense layer reads
    the mean over positions.

    Attributes:
      classes: the number of logits.
      depth: 11, 13, 16 or 19, as the networks are called.
      width: the number of channels of the first stage; 64 in the original.
      norm: `"batch"` (running statistics in the collection `batch_stats`) or
        `"layer"` (over the channels at each position; no statistics).
      dtype: what all layers but the last compute in; by default that of inputs and
        variables.

    Raises:
      ValueError: the depth is none of the four, or the norm is neither.

    Source: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2015; normalisation and the single dense layer are usual for CIFAR.
    """

    classes: int
    depth: int = 11
    width: int = 64
    norm: Norm = "batch"
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.depth not in _STAGES:
            raise ValueError(
                f"depth: expected one of {list(_STAGES)}, got {self.depth}"
            )
        check_norm(self.norm)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map images (n, height, width, channels) to logits (n, classes).

        With `train=True` BatchNorm normalises by the batch and updates its running
        statistics: apply with `mutable=["batch_stats"]`.
        """
        conv = functools.partial(convolution, dtype=self.dtype)
        norm = normalisation(self.norm, train, self.dtype)
        x = inputs
        for stage, convolutions in enumerate(_STAGES[self.depth]):
            for _ in range(convolutions):
                channels = self.width * 2 ** min(stage, 3)
                x = nn.relu(norm()(conv(channels, (3, 3), padding=1)(x)))
            # Padded where the size is odd, so that small images survive five stages.
            x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))
