"""Samples a second of task-loss matching, against two full passes a step."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import stitching
from benchmarks.models import Tiny10
from benchmarks.speed._interleaved import interleaved, ratio
from benchmarks.speed._two_passes import TwoPasses
from stitching import layers, targets
from stitching.training._order import minibatches

BASELINE = "two passes"
MANY = 8
_ROWS, _SEED = 2000, 1


@dataclasses.dataclass(frozen=True)
class TaskLossSpeedConfig:
    """What is timed.

    Args:
      rounds: How often each way is timed at each layer, in turns.
      seconds: How long each takes in a round, about.
      batch_size: Images a step.
    """

    rounds: int = 7
    seconds: float = 1.0
    batch_size: int = 100

    def __post_init__(self):
        if self.rounds < 3:
            raise ValueError(f"rounds is {self.rounds}: expected at least 3.")
        if not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds}: expected more than 0.")
        if not 1 <= self.batch_size <= _ROWS:
            raise ValueError(
                f"batch_size is {self.batch_size}: expected from 1 to {_ROWS}."
            )


@dataclasses.dataclass(frozen=True)
class Networks:
    """Two networks of one architecture, and where they are stitched.

    Attributes:
      module: The architecture.
      shape: Of an input.
      layers: Direct children of the module.
    """

    module: nn.Module
    shape: tuple[int, int, int]
    layers: tuple[str, ...]


def tiny10() -> Networks:
    """An early, a middle and a late layer of Tiny-10."""
    return Networks(Tiny10(10), (32, 32, 3), ("bn3", "bn5", "bn7"))


def measure_task_loss(
    config: TaskLossSpeedConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    networks: Networks | None = None,
) -> dict[str, Any]:
    """Times the training of an affine map at some layers, by Adam on labels.

    Ours is `stitching.train`, and `stitching.train_many` of eight maps from different
    starts; what network 1 gives is computed before, once for all steps, and its time is
    told apart. The baseline is `TwoPasses`. All compile before they are timed.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in rounds of all layers.
      networks: What is stitched; by default `tiny10()`.

    Returns:
      {"baseline", "layers": {LAYER: {"front_seconds" (of all images, once), "images",
      "samples_per_second": {NAME}, "speedup" (of one map over the baseline): {"median",
      "low", "high"}, "many" (the time of eight maps at once over eight times that of
      one), "difference" (of the losses of the second step of both ways, relative)}}}.
    """
    networks = tiny10() if networks is None else networks
    found = {}
    for number, path in enumerate(networks.layers):

        def report(done: int, _: int, before: int = number * config.rounds) -> None:
            progress(before + done, len(networks.layers) * config.rounds)

        found[path] = _measure(networks, path, config, report)
    return {"baseline": BASELINE, "layers": found}


def task_loss_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    rows = [("layer", "train/s", "8 maps/s", "two passes/s", "speedup", "8 maps, time")]
    for path, layer in result["layers"].items():
        speed = layer["samples_per_second"]
        rows.append(
            (
                path,
                f"{speed['train']:,.0f}",
                f"{speed['many']:,.0f}",
                f"{speed[BASELINE]:,.0f}",
                _times(layer["speedup"]),
                f"8 × {_times(layer['many'])}",
            )
        )
    return rows


def _times(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _measure(
    networks: Networks,
    path: str,
    config: TaskLossSpeedConfig,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    case = _Case(networks, path, config.batch_size)
    began = time.perf_counter()
    jax.block_until_ready(case.front())
    front = time.perf_counter() - began
    ways = {"train": case.one, "many": case.many, BASELINE: case.two_passes}
    first = {name: way(2) for name, way in ways.items()}  # compiles
    steps = {name: _steps(way, config.seconds) for name, way in ways.items()}
    programs = {n: functools.partial(way, steps[n]) for n, way in ways.items()}
    times = interleaved(programs, config.rounds, progress)
    step = {name: times[name] / steps[name] for name in ways}
    maps = {"train": 1, "many": MANY, BASELINE: 1}
    return {
        "front_seconds": front,
        "images": _ROWS,
        "samples_per_second": {
            name: maps[name] * config.batch_size / float(np.median(step[name]))
            for name in ways
        },
        "speedup": ratio(step[BASELINE], step["train"]),
        "many": ratio(step["many"], MANY * step["train"]),
        "difference": abs(float(first["train"][1] / first[BASELINE][1] - 1)),
    }


def _steps(way: Callable[[int], Any], seconds: float) -> int:
    """How many steps take so long, about."""
    steps = 4
    while True:
        jax.block_until_ready(way(steps))  # may compile
        began = time.perf_counter()
        jax.block_until_ready(way(steps))
        taken = time.perf_counter() - began
        if taken > seconds / 8 or steps >= 4096:
            return max(4, round(steps * seconds / taken))
        steps *= 4


class _Case:
    """Everything that the ways of training at one layer share."""

    def __init__(self, networks: Networks, path: str, batch_size: int):
        module = networks.module
        keys = jax.random.split(jax.random.key(0), 4)
        self.inputs = jax.random.normal(keys[0], (_ROWS, *networks.shape))
        self.labels = jnp.arange(_ROWS) % 10
        init = jax.jit(module.init)
        self.a, self.b = (init(key, self.inputs[:1]) for key in keys[1:3])
        self._cut = stitching.cut(module, path, self.inputs[:1], train=False)
        activation: Any = self._cut.activation
        layer = layers.Affine(activation.shape[-1])
        self._stitched = stitching.stitch(self._cut, layer, self._cut)
        self._starts = [
            self._stitched.init(key, self.a, self.inputs[:1])
            for key in jax.random.split(keys[3], MANY)
        ]
        self._optimizer = optax.adam(1e-3)
        self._usual = TwoPasses(module, path, self._optimizer)
        self._activation = self.front()
        self._batch_size = batch_size

    def front(self) -> jax.Array:
        """What network 1 gives for all images."""
        return stitching.in_batches(self._cut.front, self.a, self.inputs)

    def one(self, steps: int) -> Any:
        """Losses of one map."""
        found = stitching.train(
            *self._given(), initial=self._starts[0], **self._asked(steps)
        )
        return found.losses

    def many(self, steps: int) -> Any:
        """Losses of eight maps."""
        starts = stitching.each(self._starts)
        found = stitching.train_many(
            *self._given(), initial=starts, **self._asked(steps)
        )
        return [each.losses for each in found]

    def two_passes(self, steps: int) -> Any:
        """Losses of one map, the usual way, on minibatches in the same order."""
        orders = _minibatches(steps, self._batch_size)
        params = self._starts[0]["params"]
        return self._usual.train(
            params, self.a, self.b, self.inputs, self.labels, orders
        )[1]

    def _given(self) -> tuple[Any, ...]:
        target = targets.hard(self.labels)
        return self._stitched, self.a, self.b, self.inputs, target, self._optimizer

    def _asked(self, steps: int) -> dict[str, Any]:
        return {
            "activation": self._activation,
            "steps": steps,
            "batch_size": self._batch_size,
            "key": jax.random.key(_SEED),
        }


def _minibatches(steps: int, batch_size: int) -> jax.Array:
    """The rows that `stitching.train` takes."""
    key = jax.random.fold_in(jax.random.key(_SEED), 1)
    return jnp.concatenate(list(minibatches(key, _ROWS, batch_size, steps)))[:steps]
