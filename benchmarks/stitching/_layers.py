"""Where the networks are cut, and what is seen there."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import stitching
from benchmarks.networks import Data, Task
from benchmarks.stitching._config import LAYERS, Config

Progress = Callable[[int, int], None]

# Rows of one compiled call: it bounds the memory of activations.
BATCH = 500


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


def find_layers(config: Config, task: Task) -> list[Layer]:
    """The layers to stitch at, in the order in which the network computes them.

    Args:
      config: Names them, or leaves them to the model.
      task: The architecture, and an example of its inputs.

    Returns:
      The layers.

    Raises:
      ValueError: If a layer is unknown or no bottleneck of the network.
    """
    example = jax.ShapeDtypeStruct(task.train.inputs[:1].shape, "float32")
    names = config.layers
    if names is None:
        variables = jax.eval_shape(task.init, jax.random.key(0))
        points = stitching.cut_points(task.module, variables, example, train=False)
        pattern = re.compile(LAYERS[config.model])
        # The last layer gives the logits: behind it there is nothing.
        names = [
            p.path for p in points[:-1] if p.is_bottleneck and pattern.fullmatch(p.path)
        ]
    layers = []
    for name in names:
        cut = stitching.cut(task.module, name, example, train=False)
        if not cut.is_bottleneck:
            raise ValueError(
                f"layers: {name!r} is no bottleneck, the network's input passes beside "
                "it; expected layers through which all goes, such as blocks"
            )
        activation: Any = cut.activation
        layers.append(Layer(name, cut, activation.shape[1:]))
    return layers


def even(rows: int) -> int:
    """So many rows, or a few less, that they are whole batches of one size.

    Example:
      >>> even(5000), even(1197), even(2001)
      (5000, 1197, 2000)
    """
    batches = -(-rows // BATCH)
    return rows // batches * batches


def in_batches(data: Data) -> Iterator[Data]:
    """The rows in batches of one size; `even` has made their number fit."""
    rows = len(data.inputs)
    size = rows // -(-rows // BATCH)
    for start in range(0, rows, size):
        yield Data(*(array[start : start + size] for array in data))


class Fronts:
    """What all layers give for some inputs, computed together in one pass."""

    def __init__(self, layers: Sequence[Layer]):
        self._layers = layers

        @jax.jit
        def activations(variables, inputs):
            return [layer.cut.front(variables, inputs) for layer in layers]

        @functools.partial(jax.jit, donate_argnums=0)
        def see(seen, a, b, inputs):
            pairs = zip(activations(a, inputs), activations(b, inputs), strict=True)
            more = [stitching.moments(x, y) for x, y in pairs]
            return [stitching.merge(*both) for both in zip(seen, more, strict=True)]

        self.activations, self._see = activations, see

    def moments(
        self, a: Any, b: Any, data: Data, progress: Progress | None = None
    ) -> list[stitching.Moments]:
        """Moments of the activations of two networks, layer by layer."""
        seen = [_nothing(layer.channels) for layer in self._layers]
        batches = list(in_batches(data))
        for done, batch in enumerate(batches):
            seen = self._see(seen, a, b, batch.inputs)
            if progress:
                progress(done + 1, len(batches))
        return seen


def _nothing(channels: int) -> stitching.Moments:
    mean, second = jnp.zeros(channels), jnp.zeros((channels, channels))
    zeros = (jnp.zeros(()), mean, mean, second, second, second)
    return stitching.Moments(*(jnp.array(array) for array in zeros))
