"""GPT-2 in Flax Linen, and its variables from a file with Hugging Face's names.

The names of the layers are Hugging Face's, so that
`transformer.h.0.attn.c_attn.weight` becomes `params/h_0/attn/c_attn/kernel`. Its
`Conv1D` keeps weights as (in, out), as Flax's `Dense` does: nothing is transposed. The
head is the table of words.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from safetensors.numpy import load_file

_LEAVES = {
    "ln": {"weight": "scale", "bias": "bias"},
    "wte": {"weight": "embedding"},
    "wpe": {"weight": "embedding"},
    "c": {"weight": "kernel", "bias": "bias"},
}


class GPT2(nn.Module):
    """Logits (n, length, vocabulary) of the token after each of (n, length)."""

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int

    @nn.compact
    def __call__(self, tokens):
        words = nn.Embed(self.vocabulary, self.width, name="wte")
        positions = nn.Embed(self.context, self.width, name="wpe")
        x = words(tokens) + positions(jnp.arange(tokens.shape[-1]))
        for i in range(self.layers):
            x = Block(self.heads, name=f"h_{i}")(x)
        return words.attend(nn.LayerNorm(epsilon=1e-5, name="ln_f")(x))


class Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(epsilon=1e-5, name="ln_1")(x)
        x = x + Attention(self.heads, name="attn")(y)
        y = nn.LayerNorm(epsilon=1e-5, name="ln_2")(x)
        return x + Perceptron(name="mlp")(y)


class Attention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        fused = nn.Dense(3 * width, name="c_attn")(x)
        query, key, value = (
            part.reshape(*x.shape[:-1], self.heads, width // self.heads)
            for part in jnp.split(fused, 3, axis=-1)
        )
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return nn.Dense(width, name="c_proj")(mixed.reshape(x.shape))


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.gelu(nn.Dense(4 * x.shape[-1], name="c_fc")(x), approximate=True)
        return nn.Dense(x.shape[-1], name="c_proj")(hidden)


def load(path):
    """The variables of `GPT2`, from a safetensors file by Hugging Face's names."""
    variables = {}
    for name, array in load_file(path).items():
        *layers, leaf = name.removeprefix("transformer.").split(".")
        if layers[-1] == "attn" or layers == ["lm_head"]:
            continue  # Masks, in older files; the head is tied.
        if layers[0] == "h":
            layers = [f"h_{layers[1]}", *layers[2:]]
        kind = layers[-1].split("_")[0]
        variables["params", *layers, _LEAVES[kind][leaf]] = array
    return traverse_util.unflatten_dict(variables)
