"""Small networks to cut, and their variables."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx


class Compact(nn.Module):
    """Dense layers; the first may be as wide as another network's."""

    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(self.width)(x))
        x = nn.relu(nn.Dense(6)(x))
        return nn.Dense(3)(x)


class Setup(nn.Module):
    """A list of layers made in `setup`, and a method beside `__call__`."""

    def setup(self):
        self.layers = [nn.Dense(8), nn.LayerNorm()]
        self.head = nn.Dense(3)

    def features(self, x):
        for layer in self.layers:
            x = nn.gelu(layer(x))
        return x

    def __call__(self, x):
        return self.head(self.features(x))


class Block(nn.Module):
    """A residual block with BatchNorm."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        y = nn.Dense(4, name="dense")(x)
        y = nn.BatchNorm(use_running_average=not train, name="norm")(y)
        return nn.relu(x + y)


# Made once, so that traces stay in the cache of the class.
JitBlock = nn.jit(Block, static_argnums=2)


class Residual(nn.Module):
    """A stem, two residual blocks and a head; blocks may be transformed."""

    transform: Callable[..., Any] = lambda block, static_argnums: block

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(4, (3, 3), name="stem")(x)
        for name in ("first", "second"):
            x = self.transform(Block, static_argnums=2)(name=name)(x, train)
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


class Shared(nn.Module):
    """One layer called three times."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(5, name="shared")
        return nn.Dense(2, name="head")(layer(jnp.sin(layer(jnp.sin(layer(x))))))


class Mapped(nn.Module):
    """Three members of an ensemble by `nn.vmap`, the mapped axis last, then a mean."""

    @nn.compact
    def __call__(self, x):
        vmap: Any = nn.vmap  # Its annotations allow no `None`.
        members = vmap(
            Compact,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=-1,
            axis_size=3,
        )
        return members(name="members")(x).mean(axis=-1)


class Child(nn.Dense):
    """A layer that calls its parent's `__call__`."""

    @nn.compact
    def __call__(self, x):
        return super().__call__(x) + 1


class Doubling(nn.Module):
    """A layer that leaves a mapped axis where it is."""

    @nn.compact
    def __call__(self, x):
        return 2 * x


class MappedLast(nn.Module):
    """A layer mapped over the last axis."""

    @nn.compact
    def __call__(self, x):
        mapped = nn.vmap(Doubling, variable_axes={}, split_rngs={}, in_axes=2)
        return nn.Dense(2, name="head")(mapped(name="double")(x).sum(axis=0))


class Pair(nn.Module):
    """A layer that gives two arrays, one of which goes nowhere."""

    @nn.compact
    def __call__(self, x):
        double = Double(name="double")(x)
        return Child(2, name="head")(double["used"])


class Double(nn.Module):
    """Two arrays."""

    @nn.compact
    def __call__(self, x):
        return {"used": nn.Dense(4)(x), "unused": nn.Dense(3)(x)}


class Noisy(nn.Module):
    """Dropout that is on unless told otherwise."""

    @nn.compact
    def __call__(self, x, deterministic: bool = False):
        x = nn.Dense(4)(x)
        x = nn.Dropout(0.5)(x, deterministic=deterministic)
        return nn.Dense(2)(x)


class Slope(nn.Module):
    """The derivative of a network by its input, taken inside the network."""

    @nn.compact
    def __call__(self, x):
        def energy(module, x):
            return jnp.tanh(nn.Dense(4, name="layer")(x)).sum()

        value, pull = nn.vjp(energy, self, x)
        return pull(jnp.ones_like(value))[1]


class NnxBlock(nnx.Module):
    """A residual block."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(6, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(x + self.dropout(self.norm(self.dense(x))))


class NnxNetwork(nnx.Module):
    """A stem, residual blocks in a list, the stem's layer once more, a head."""

    def __init__(self, rngs, remat=False):
        self.stem = nnx.Linear(6, 6, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(2)])
        self.again = self.stem
        self.head = nnx.Sequential(nnx.Linear(6, 5, rngs=rngs), nnx.tanh)
        self.remat = remat

    def __call__(self, x):
        x = jnp.sin(self.stem(x))
        for block in self.blocks:
            call = nnx.remat(_called) if self.remat else _called
            x = call(block, x)
        return self.head(self.again(x))


def _called(block, x):
    return block(x)


def _normal(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def images(n: int = 2) -> jax.Array:
    """(n, 4, 4, 2)."""
    return _normal(n, 4, 4, 2)


def vectors(n: int = 4, features: int = 5) -> jax.Array:
    """(n, features)."""
    return _normal(n, features)


def scattered(variables: Any) -> Any:
    """Variables of these shapes at random, positive where they have one axis."""
    generator = np.random.default_rng(3)

    def draw(leaf):
        values = generator.normal(size=leaf.shape) / np.sqrt(max(leaf.shape[0], 1))
        return jnp.asarray(abs(values) if leaf.ndim == 1 else values, leaf.dtype)

    return jax.tree.map(draw, variables)


def initialised(module: nn.Module, x: jax.Array, **options: Any) -> Any:
    """Variables at random, without a compilation."""

    def init(x):
        return module.init(jax.random.key(0), x, **options)

    return scattered(jax.eval_shape(init, x))


class Masked(nn.Module):
    """Takes tokens, and a mask as a second input or as an option."""

    @nn.compact
    def __call__(self, tokens, mask=None):
        x = nn.Embed(7, 4, name="embed")(tokens)
        x = nn.Dense(4, name="enc")(x)
        if mask is not None:
            x = x * mask[..., None]
        return nn.Dense(2, name="head")(x)

    def both(self, tokens, mask):
        return self(tokens, mask=mask)


class NnxMasked(nnx.Module):
    """The same, in NNX."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 4, rngs=rngs)
        self.enc = nnx.Linear(4, 4, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, tokens, mask=None):
        x = self.enc(self.embed(tokens))
        if mask is not None:
            x = x * mask[..., None]
        return self.head(x)

    def both(self, tokens, mask):
        return self(tokens, mask=mask)


class AnySize(nn.Module):
    """Takes sequences of any length, or maps of any size, and their mean."""

    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width, name="first")(x))
        x = nn.relu(nn.Dense(6, name="mid")(x)).mean(axis=range(1, x.ndim - 1))
        return nn.Dense(3, name="head")(x)
