"""A small causal transformer over characters."""

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

    Source: Radford et al., "Language models are unsupervised multitask learners",
    2019, for the order of the layers.
    """

    classes: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    context: int = 64

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width is {self.width} and heads is {self.heads}: expected a width "
                "that the heads divide"
            )
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
        positions = nn.Embed(self.context, self.width, name="positions")
        x = nn.Embed(self.classes, self.width, name="characters")(inputs)
        x = x + positions(jnp.arange(length))
        mask = nn.make_causal_mask(inputs)
        for _ in range(self.layers):
            x = _Block(self.heads)(x, mask)
        return nn.Dense(self.classes)(nn.LayerNorm()(x))


class _Block(nn.Module):
    """Attention and a perceptron, each added to its input."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        width = x.shape[-1]
        attention = nn.MultiHeadDotProductAttention(self.heads)
        x = x + attention(nn.LayerNorm()(x), mask=mask)
        y = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
        return x + nn.Dense(width)(y)
