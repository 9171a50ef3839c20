"""Networks for images: a perceptron, a small convolutional network, ResNet and VGG."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from flax import linen as nn

Norm = Literal["batch", "layer"]

# The convolutions of each stage, by the number of layers with weights in the original,
# whose last three were dense.
_STAGES = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class MLP(nn.Module):
    """Dense layers with ReLU between them, on the flattened input.

    Attributes:
        classes: the number of logits.
        features: the width of each hidden layer.

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


class CNN(nn.Module):
    """Twice a convolution (3×3, ReLU) and a 2×2 maximum, then two dense layers.

    Attributes:
        classes: the number of logits.
        channels: the width of each convolution.
        features: the width of the hidden dense layer.

    References:
        LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
        recognition", 1998, for the order of the layers.
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

    Raises:
        ValueError: the depth is not 6n + 2, or the norm is neither.

    References:
        He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016,
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
        _check_norm(self.norm)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map images (n, height, width, channels) to logits (n, classes).

        With `train=True` BatchNorm normalises by the batch and updates its running
        statistics: apply with `mutable=["batch_stats"]`.
        """
        conv, norm = _layers(self.norm, train, self.dtype)
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


class VGG(nn.Module):
    """Five stages of 3×3 convolutions, each stage ended by a 2×2 maximum.

    A normalisation and ReLU follow each convolution. The stages have 1, 2, 4, 8 and 8
    times `width` channels; images of 32×32 end in one position. One dense layer reads
    the mean over positions.

    Attributes:
        classes: the number of logits.
        depth: 11, 13, 16 or 19, as the networks are called.
        width: the number of channels of the first stage; 64 in the original.
        norm: as in `ResNet`.

    Raises:
        ValueError: the depth is none of the four, or the norm is neither.

    References:
        Simonyan, Zisserman, "Very deep convolutional networks for large-scale image
        recognition", 2015; normalisation and the single dense layer are usual for
        CIFAR.
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
        _check_norm(self.norm)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map images to logits, as `ResNet` does."""
        conv, norm = _layers(self.norm, train, self.dtype)
        x = inputs
        for stage, convolutions in enumerate(_STAGES[self.depth]):
            for _ in range(convolutions):
                channels = self.width * 2 ** min(stage, 3)
                x = nn.relu(norm()(conv(channels, (3, 3), padding=1)(x)))
            # Padded where the size is odd, so that small images survive five stages.
            x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


def _check_norm(norm: str) -> None:
    if norm not in ("batch", "layer"):
        raise ValueError(f"norm: expected 'batch' or 'layer', got {norm!r}")


def _layers(norm: Norm, train: bool, dtype: Any) -> tuple[Callable[..., Any], ...]:
    """Makers of convolutions and of the normalisation that follows each of them."""
    convolution = functools.partial(
        nn.Conv, use_bias=False, kernel_init=nn.initializers.he_normal(), dtype=dtype
    )
    if norm == "layer":
        return convolution, functools.partial(nn.LayerNorm, dtype=dtype)
    # Flax's decay of 0.99 remembers more steps than a short run has.
    batch_norm = functools.partial(
        nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=dtype
    )
    return convolution, batch_norm
