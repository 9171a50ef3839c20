"""Tiny-10, the convolutional network of the stitching paper."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

_CHANNELS = (16, 16, 32, 32, 32, 64, 64, 64)
_STRIDED = (3, 6)
# Of CIFAR-10's images it gives 2×2 positions.
_TO_FEW_POSITIONS = 7
# What eight unpadded convolutions need to leave one position.
_SMALLEST = 27


class Tiny10(nn.Module):
    """Eight unpadded convolutions, each with BatchNorm and ReLU, and a dense layer.

    The convolutions have 16, 16, 32, 32, 32, 64, 64 and 64 channels; they are 3×3, the
    last 1×1; the third and the sixth have a stride of two. The dense layer reads the
    mean over positions. Layers are called as in the published networks: `conv1`, `bn1`
    to `conv8`, `bn8`, and `fc`; `benchmarks.weights.load` reads those. They expect
    CIFAR-10 as `benchmarks.data.load` standardises it.

    Attributes:
        classes: the number of logits.

    Raises:
        ValueError: when called on images smaller than 27×27.

    References:
        Csiszárik, Kőrösi-Szabó, Matszangosz, Papp, Varga, "Similarity and matching of
        neural network representations", 2021.
    """

    classes: int = 10
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map images to logits, as `ResNet` does."""
        height, width = inputs.shape[1:3]
        if min(height, width) < _SMALLEST:
            raise ValueError(
                f"inputs are images of {height}×{width}, expected at least "
                f"{_SMALLEST}×{_SMALLEST}: Tiny-10's convolutions are not padded"
            )
        x = inputs
        for i, channels in enumerate(_CHANNELS, start=1):
            size = 1 if i == len(_CHANNELS) else 3
            stride = 2 if i in _STRIDED else 1
            convolution = nn.Conv(
                channels,
                (size, size),
                stride,
                padding="VALID",
                dtype=self.dtype,
                conv_general_dilated=(
                    convolve_by_products if i == _TO_FEW_POSITIONS else None
                ),
                name=f"conv{i}",
            )
            # The epsilon that the published networks were trained with.
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                dtype=self.dtype,
                name=f"bn{i}",
            )
            x = nn.relu(norm(convolution(x)))
        return nn.Dense(self.classes, name="fc")(x.mean(axis=(1, 2)))


def convolve_by_products(
    inputs: jax.Array, kernel: jax.Array, *_: Any, precision: Any = None, **__: Any
) -> jax.Array:
    """Convolve without padding or strides, by a product for each weight of a filter.

    For `flax.linen.Conv(conv_general_dilated=...)`. Where there are fewer positions
    than weights of a filter, XLA exchanges the operands of the gradient's convolution;
    on CPUs it has no fast way for that, and this takes a fifth of the time.
    """
    rows, columns = kernel.shape[:2]
    height, width = inputs.shape[1] - rows + 1, inputs.shape[2] - columns + 1
    products = [
        jnp.matmul(
            inputs[:, i : i + height, j : j + width], kernel[i, j], precision=precision
        )
        for i in range(rows)
        for j in range(columns)
    ]
    return functools.reduce(jnp.add, products)
