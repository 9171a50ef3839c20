"""What a family is: a small network and the layout of its complete symmetry."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Family(NamedTuple):
    """A network and what may be permuted in it.

    `complete` says that the layout is all that there is to find; else it is the least
    that must be found, and more may be, as long as the function stays. `single` marks
    programs that cannot be run in float64.
    """

    apply: Callable[..., Any]
    variables: Any
    inputs: tuple[Any, ...]
    layout: str
    complete: bool = True
    single: bool = False


FAMILIES: dict[str, Callable[[], Family]] = {}


def family(build: Callable[[], Family]) -> Callable[[], Family]:
    """Puts a builder on the list, under its own name."""
    FAMILIES[build.__name__] = build
    return build


def draw(shapes: Any, name: str = "") -> Any:
    """Random variables: vectors positive (they may be variances), the rest signed."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def leaf(like):
        if not jnp.issubdtype(like.dtype, jnp.floating):
            return jnp.zeros(like.shape, like.dtype)
        if len(like.shape) < 2:
            return jnp.asarray(rng.uniform(0.5, 1.5, like.shape), like.dtype)
        fan = np.prod(like.shape[:-1]) ** 0.5
        return jnp.asarray(rng.normal(size=like.shape) * 1.5 / fan, like.dtype)

    return jax.tree.map(leaf, shapes)


def random(*shape: int, seed: int = 0) -> Any:
    """A random input."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def tokens(*shape: int, vocabulary: int = 11) -> Any:
    """Random integers."""
    return jnp.asarray(np.random.default_rng(0).integers(0, vocabulary, shape))


class Net(nn.Module):
    """A Linen module whose compact method is the given function."""

    body: Callable[..., Any]

    @nn.compact
    def __call__(self, *inputs):
        return self.body(*inputs)


def linen(body, *inputs, layout: str, complete: bool = True) -> Family:
    """A family from a module, or from the body of its compact method."""
    module = body if isinstance(body, nn.Module) else Net(body)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return Family(module.apply, draw(shapes), inputs, layout, complete)


def plain(apply, shapes, *inputs, layout: str, complete: bool = True) -> Family:
    """A family from a function of a dict of arrays, given by their shapes."""
    like = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    return Family(apply, draw(like), inputs, layout, complete)


def dense(features: int, name: str, **options) -> nn.Dense:
    return nn.Dense(features, name=name, **options)


def conv(features: int, name: str, size: int = 3, **options) -> nn.Conv:
    return nn.Conv(features, (size, size), name=name, **options)
