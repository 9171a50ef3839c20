"""Small transformers, over characters and over patches of images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class CharTransformer(nn.Module):
    """A causal transformer that predicts the next character at every position.

    Layer normalisation comes before attention and before the two-layer perceptron
    (GELU, four times as wide); positions are learned; there is no dropout.

    Attributes:
        classes: the number of distinct characters.
        width: the width of the residual stream.
        layers: the number of blocks.
        heads: the number of attention heads; divides the width.
        context: the longest input.

    Raises:
        ValueError: the heads do not divide the width, or an input is too long.

    References:
        Radford et al., "Language models are unsupervised multitask learners", 2019, for
        the order of the layers.
    """

    classes: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    context: int = 64
    dtype: Any = None

    def __post_init__(self) -> None:
        _check_heads(self.width, self.heads)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map character ids (n, length) to logits (n, length, classes)."""
        del train  # Nothing here behaves differently in training.
        length = inputs.shape[-1]
        if length > self.context:
            raise ValueError(
                f"inputs have {length} characters, expected at most context="
                f"{self.context}: shorten them or build with a longer context"
            )
        positions = nn.Embed(
            self.context, self.width, dtype=self.dtype, name="positions"
        )
        characters = nn.Embed(
            self.classes, self.width, dtype=self.dtype, name="characters"
        )
        x = characters(inputs) + positions(jnp.arange(length))
        mask = nn.make_causal_mask(inputs)
        for _ in range(self.layers):
            x = _Block(self.heads, self.dtype)(x, mask)
        return nn.Dense(self.classes)(nn.LayerNorm()(x))


class ViT(nn.Module):
    """A vision transformer: an image is a sequence of its square patches.

    Patches are mapped to the width by one dense layer, and learned positions are added;
    layers are those of `CharTransformer` without the mask. The dense layer at the end
    reads the mean over patches.

    Attributes:
        classes: the number of logits.
        patch: the height and width of a patch in pixels.
        width: the width of the residual stream.
        layers: the number of blocks.
        heads: the number of attention heads; divides the width.

    Raises:
        ValueError: the heads do not divide the width, or patches do not tile an image.

    References:
        Dosovitskiy et al., "An image is worth 16x16 words: transformers for image
        recognition at scale", 2021, with the mean in place of a class token.
    """

    classes: int
    patch: int = 4
    width: int = 64
    layers: int = 4
    heads: int = 4
    dtype: Any = None

    def __post_init__(self) -> None:
        _check_heads(self.width, self.heads)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Map images (n, height, width, channels) to logits (n, classes)."""
        del train  # Nothing here behaves differently in training.
        count, height, width, _ = inputs.shape
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"inputs are images of {height}×{width}, expected a height and width "
                f"that patch={self.patch} divides"
            )
        # A dense layer on each patch.
        size = (self.patch, self.patch)
        patches = nn.Conv(
            self.width, size, size, padding="VALID", dtype=self.dtype, name="patches"
        )
        x = patches(inputs).reshape(count, -1, self.width)
        positions = self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        x = x + positions.astype(x.dtype)
        for _ in range(self.layers):
            x = _Block(self.heads, self.dtype)(x)
        return nn.Dense(self.classes)(nn.LayerNorm()(x).mean(axis=1))


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width: expected a multiple of heads={heads}, got {width}")


class _Block(nn.Module):
    """Attention and a perceptron, each added to its input."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        width = x.shape[-1]
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        norm = functools.partial(nn.LayerNorm, dtype=self.dtype)
        attention = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype)
        x = x + attention(norm()(x), mask=mask)
        y = nn.gelu(dense(4 * width)(norm()(x)))
        return x + dense(width)(y)
