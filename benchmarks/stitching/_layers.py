"""Where networks are cut, on which rows, and the activations there."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import stitching
from benchmarks.networks import Data, Task
from benchmarks.stitching._config import LAYERS, Config

Advance = Callable[[int, int], None]

# Rows of one compiled call: it bounds the memory of activations.
BATCH = 500
# Of your own models: a pattern that whole paths match.
_TOP_LEVEL = r"[^/.]+"


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer at whose output networks of one architecture are cut.

    Attributes:
      name: Its path.
      cut: The two halves.
      shape: Of the activation of one sample, channels last.
    """

    name: str
    cut: stitching.Cut
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Of the activation."""
        return self.shape[-1]

    @property
    def identity(self) -> stitching.Fit:
        """The map that changes nothing."""
        return stitching.Fit(jnp.eye(self.channels), jnp.zeros(self.channels))


def find_layers(config: Config, task: Task) -> list[Layer]:
    """Return the layers to stitch at, in the order in which they are computed.

    Args:
      config: Names them, or leaves them to the model.
      task: The architecture, and an example of its inputs.

    Raises:
      ValueError: If a layer is unknown or not a bottleneck of the network.
    """
    inputs = task.train.inputs
    example = jax.ShapeDtypeStruct(inputs[:1].shape, inputs.dtype)
    names = config.layers
    if names is None:
        points = task.network.cut_points(example)
        pattern = re.compile(LAYERS.get(config.model, _TOP_LEVEL))
        # The last layer returns the logits: nothing follows it.
        names = [
            p.path for p in points[:-1] if p.is_bottleneck and pattern.fullmatch(p.path)
        ]
    layers = []
    for name in names:
        cut = task.network.cut(name, example)
        if not cut.is_bottleneck:
            raise ValueError(
                f"layers: expected layers that everything passes through, such as "
                f"blocks, got {name!r}, which the network's input bypasses"
            )
        activation: Any = cut.activation
        layers.append(Layer(name, cut, activation.shape[1:]))
    return layers


class Rows(NamedTuple):
    """Random rows, in whole batches.

    Attributes:
      fit: Training rows.
      test: Test rows.
      few_fit: The first of `fit`, for layer to layer and for audits.
      few_test: The first of `test`, for the same.
    """

    fit: Data
    test: Data
    few_fit: Data
    few_test: Data


def choose_rows(config: Config, task: Task) -> Rows:
    """Return rows of a task's training and test data, or as many as there are."""
    generator = np.random.default_rng(config.seed)

    def some(data: Data, count: int) -> Data:
        order = generator.permutation(len(data.inputs))
        return Data(*(x[order[: even(min(count, len(order)))]] for x in data))

    def first(data: Data, count: int) -> Data:
        return Data(*(x[: even(min(count, len(x)))] for x in data))

    fit, test = some(task.train, config.fit_rows), some(task.test, config.test_rows)
    few = first(fit, config.cross_rows), first(test, config.cross_rows // 2)
    return Rows(fit, test, *few)


def even(rows: int) -> int:
    """Return this number of rows or slightly fewer: whole batches of one size.

    Example:
      >>> even(5000), even(1197), even(2001)
      (5000, 1197, 2000)
    """
    batches = -(-rows // BATCH)
    return rows // batches * batches


def in_batches(data: Data) -> Iterator[Data]:
    """Yield the rows in batches of one size; `even` has made their number fit."""
    rows = len(data.inputs)
    size = rows // -(-rows // BATCH)
    for start in range(0, rows, size):
        yield Data(*(array[start : start + size] for array in data))


class Fronts:
    """The activations of all layers, computed in one pass."""

    def __init__(self, layers: Sequence[Layer]):
        self._layers = layers

        @jax.jit
        def activations(variables, inputs):
            return [layer.cut.front(variables, inputs) for layer in layers]

        @functools.partial(jax.jit, donate_argnums=0)
        def update(found, a, b, inputs):
            pairs = zip(activations(a, inputs), activations(b, inputs), strict=True)
            more = [stitching.moments(x, y) for x, y in pairs]
            return [stitching.merge(*both) for both in zip(found, more, strict=True)]

        self._activations, self._update = activations, update

    def moments(
        self, a: Any, b: Any, data: Data, advance: Advance | None = None
    ) -> list[stitching.Moments]:
        """Return moments of the activations of two networks, layer by layer."""
        found = [_no_moments(layer.channels) for layer in self._layers]
        batches = list(in_batches(data))
        for done, batch in enumerate(batches):
            found = self._update(found, a, b, batch.inputs)
            if advance:
                advance(done + 1, len(batches))
        return found

    def activations(self, variables: Any, data: Data) -> list[jax.Array]:
        """Return the activations of one network, layer by layer."""
        parts = [self._activations(variables, x.inputs) for x in in_batches(data)]
        return [jnp.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _no_moments(channels: int) -> stitching.Moments:
    mean, second = (channels,), (channels, channels)
    return stitching.Moments(*map(jnp.zeros, ((), mean, mean, second, second, second)))
