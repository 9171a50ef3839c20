"""Where networks are cut, on which rows, and the activations there."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import stitching
from benchmarks.configs.stitching import LAYERS, Config
from benchmarks.data import Split
from benchmarks.networks import Advance, Task
from stitching.layers import resize

# Rows of one compiled call: it bounds the memory of activations.
BATCH = 500
# Of your own models: a pattern that whole paths match.
_TOP_LEVEL = r"[^/.]+"


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer at whose output networks of one architecture are cut."""

    name: str  # its path
    cut: stitching.Cut  # the two halves
    shape: tuple[int, ...]  # of the activation of one sample, channels last

    @property
    def channels(self) -> int:
        """Number of channels of the activation."""
        return self.shape[-1]

    @property
    def identity(self) -> stitching.Fit:
        """The map that changes nothing."""
        return stitching.Fit(jnp.eye(self.channels), jnp.zeros(self.channels))


def resizing(source: Layer, layer: Layer) -> Callable[[Any], jax.Array] | None:
    """Return what resizes the maps of a layer to those of another, if it must."""
    same = source.shape[:-1] == layer.shape[:-1]
    return None if same else _resizing(layer.shape[0], layer.shape[1])


@functools.cache  # functions are compared by identity: compilations are shared
def _resizing(height: int, width: int) -> Callable[[Any], jax.Array]:
    return functools.partial(resize, size=(height, width), method="linear")


def find_layers(config: Config, task: Task) -> tuple[Layer, ...]:
    """Return the layers to stitch at, in the order in which they are computed."""
    names = config.layers
    if names is None:
        points = task.network.cut_points(task.example)
        pattern = re.compile(LAYERS.get(config.model, _TOP_LEVEL))
        # The last layer returns the logits: nothing follows it.
        names = [
            p.path for p in points[:-1] if p.is_bottleneck and pattern.fullmatch(p.path)
        ]
    layers = []
    for name in names:
        cut = task.network.cut(name, task.example)
        if not cut.is_bottleneck:
            raise ValueError(
                f"layers: expected layers that everything passes through, such as "
                f"blocks, got {name!r}, which the network's input bypasses"
            )
        activation: Any = cut.activation
        layers.append(Layer(name, cut, activation.shape[1:]))
    return tuple(layers)


class Rows(NamedTuple):
    """Random rows, in whole batches."""

    fit: Split  # training rows
    test: Split  # test rows
    few_fit: Split  # the first of `fit`, for layer to layer and for audits
    few_test: Split  # the first of `test`, for the same


def choose_rows(config: Config, task: Task) -> Rows:
    """Return rows of a task's training and test data, or as many as there are."""
    generator = np.random.default_rng(config.seed)

    def some(data: Split, count: int) -> Split:
        order = generator.permutation(len(data.inputs))
        return data.taken(order[: even(min(count, len(order)))])

    def few(data: Split, count: int) -> Split:
        return data.first(even(min(count, len(data.inputs))))

    fit, test = some(task.train, config.fit_rows), some(task.test, config.test_rows)
    return Rows(
        fit, test, few(fit, config.cross_rows), few(test, config.cross_rows // 2)
    )


def even(rows: int) -> int:
    """Return this number of rows or slightly fewer: whole batches of one size."""
    batches = -(-rows // BATCH)
    return rows // batches * batches


def in_batches(data: Split) -> list[Split]:
    """Return the rows in batches of one size; `even` has made their number fit."""
    rows = len(data.inputs)
    size = rows // -(-rows // BATCH)
    return [data.taken(slice(start, start + size)) for start in range(0, rows, size)]


@functools.partial(jax.jit, static_argnums=0)
def _fronts(layers, variables, inputs):
    return [layer.cut.front(variables, inputs) for layer in layers]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _more_moments(layers, found, a, b, inputs):
    pairs = zip(_fronts(layers, a, inputs), _fronts(layers, b, inputs), strict=True)
    more = [stitching.moments(x, y) for x, y in pairs]
    return [stitching.merge(*both) for both in zip(found, more, strict=True)]


def moments(
    layers: tuple[Layer, ...], a: Any, b: Any, data: Split, advance: Advance
) -> list[stitching.Moments]:
    """Return moments of the activations of two networks, layer by layer."""
    found = []
    for layer in layers:
        mean, second = (layer.channels,), (layer.channels, layer.channels)
        shapes = ((), mean, mean, second, second, second)
        found.append(stitching.Moments(*map(jnp.zeros, shapes)))
    batches = in_batches(data)
    for done, batch in enumerate(batches):
        found = _more_moments(layers, found, a, b, batch.inputs)
        advance(done + 1, len(batches))
    return found


def activations(
    layers: tuple[Layer, ...], variables: Any, data: Split
) -> list[jax.Array]:
    """Return the activations of one network, layer by layer."""
    parts = [_fronts(layers, variables, x.inputs) for x in in_batches(data)]
    return [jnp.concatenate(arrays) for arrays in zip(*parts, strict=True)]
