"""Residual networks for small images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from benchmarks.models._layers import Norm, check_norm, convolution, normalisation


class ResNet(nn.Module):
    """The residual network of depth 6n + 2 for CIFAR.

    A 3×3 convolution, three stages of n blocks with 16, 32 and 64 channels times
    `width`, the mean over positions and a dense layer. The second and the third stage
    start with a stride of two. Where a block changes the shape, its shortcut is a 1×1
    convolution with a normalisation.

    Attributes:
      classes: the number of logits.
      depth: 6n + 2.
      width: multiplies every number of channels.
      norm: `"batch"` (running statistics in the collection `batch_stats`) or
        `"layer"` (over the channels at each position; no statistics).
      dtype: what all layers but the last compute in; by default that of inputs and
        variables.

    Raises:
      ValueError: the depth is not 6n + 2, or the norm is neither.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016,
    section 4.2, with shortcuts of option B.
    """

    classes: int
    depth: int = 20
    width: int = 1
    norm: Norm = "batch"
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(
                "depth: expected 6n + 2 for n blocks per stage (8, 14, 20, …), got "
                f"{self.depth}"
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
        x = conv(16 * self.width, (3, 3), padding=1)(inputs)
        x = nn.relu(norm()(x))
        for stage in range(3):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _Block(16 * self.width * 2**stage, stride, conv, norm)(x)
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


class _Block(nn.Module):
    """Two 3×3 convolutions added to a shortcut."""

    channels: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides = (self.stride, self.stride)
        # Not "SAME", which would pad a stride of two on one side only.
        y = self.conv(self.channels, (3, 3), strides, padding=1)(x)
        y = nn.relu(self.norm()(y))
        y = self.norm()(self.conv(self.channels, (3, 3), padding=1)(y))
        if x.shape != y.shape:
            x = self.norm()(self.conv(self.channels, (1, 1), strides)(x))
        return nn.relu(x + y)
