"""Samples per second of task-loss matching, by the library and by hand."""

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
from benchmarks.speed._two_passes import Loop, on_activations, two_passes
from stitching import layers, targets

BASELINE, BY_HAND = "two passes", "by hand"
MANY = 8
_ROWS = 2000


@dataclasses.dataclass(frozen=True)
class TaskLossSpeedConfig:
    """What is timed.

    Args:
      rounds: How often each implementation is timed at each layer, in turns.
      seconds: How long each takes in a round, about.
      batch_size: Images per step.
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
    starts. By hand are two Python loops over a compiled step: on activations that are
    computed before, as ours are, and with two full forward passes (the baseline). All
    take as many steps and are compiled before they are timed.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in rounds of all layers.
      networks: What is stitched; by default `tiny10()`.

    Returns:
      {"baseline", "layers": {LAYER: {"front_seconds" (of all images, once), "images",
      "samples_per_second": {NAME}, "speedup" (of one map over the baseline): {"median",
      "low", "high"}, "by_hand" (the time of one map over that of the loop by hand on
      activations), "many" (the time of eight maps at once over eight times that of
      one), "difference" (of the losses of both loops by hand over full batches and of
      ours, relative)}}}.
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
    names = ("train", "many", BY_HAND, BASELINE)
    rows = [
        ("layer", *(f"{name}/s" for name in names), "speedup", "of by hand", "8 maps")
    ]
    for path, layer in result["layers"].items():
        speed = layer["samples_per_second"]
        by_hand = layer.get("by_hand")
        rows.append(
            (
                path,
                *(f"{speed[name]:,.0f}" if name in speed else "–" for name in names),
                _times(layer["speedup"]),
                _times(by_hand) if by_hand else "–",
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
    case = _Case(networks, path)
    began = time.perf_counter()
    jax.block_until_ready(case.front())
    front = time.perf_counter() - began
    programs = {
        "train": case.one,
        "many": case.many,
        BY_HAND: case.by_hand,
        BASELINE: case.two_passes,
    }
    whole = {n: run(2, _ROWS) for n, run in programs.items() if n != "many"}
    one = [float(losses[1]) for losses in whole.values()]
    size = config.batch_size
    steps = {n: _steps(run, size, config.seconds) for n, run in programs.items()}
    # Fixed costs of a call are shared by as many steps.
    steps["train"] = steps[BY_HAND]
    timed = {n: functools.partial(run, steps[n], size) for n, run in programs.items()}
    times = interleaved(timed, config.rounds, progress)
    step = {name: times[name] / steps[name] for name in programs}
    maps = {name: MANY if name == "many" else 1 for name in programs}
    return {
        "front_seconds": front,
        "images": _ROWS,
        "samples_per_second": {
            name: maps[name] * size / float(np.median(step[name])) for name in programs
        },
        "speedup": ratio(step[BASELINE], step["train"]),
        "by_hand": ratio(step["train"], step[BY_HAND]),
        "many": ratio(step["many"], MANY * step["train"]),
        "difference": max(one) / min(one) - 1,
    }


def _steps(run: Callable[[int, int], Any], batch_size: int, seconds: float) -> int:
    """How many steps take so long, about."""
    steps = 4
    while True:
        run(steps, batch_size)  # may compile
        began = time.perf_counter()
        run(steps, batch_size)
        taken = time.perf_counter() - began
        if taken > seconds / 8 or steps >= 4096:
            return max(4, round(steps * seconds / taken))
        steps *= 4


class _Case:
    """What the implementations at one layer share; each gives losses."""

    def __init__(self, networks: Networks, path: str):
        module, optimizer = networks.module, optax.adam(1e-3)
        keys = jax.random.split(jax.random.key(0), 4)
        inputs = jax.random.normal(keys[0], (_ROWS, *networks.shape))
        labels = jnp.arange(_ROWS) % 10
        a, b = (jax.jit(module.init)(key, inputs[:1]) for key in keys[1:3])
        cut = stitching.cut(module, path, inputs[:1], train=False)
        example: Any = cut.activation
        layer = layers.Affine(example.shape[-1])
        stitched = stitching.stitch(cut, layer, cut)
        starts = jax.random.split(keys[3], MANY)
        self._starts = [stitched.init(key, a, inputs[:1]) for key in starts]
        self.front = functools.partial(stitching.in_batches, cut.front, a, inputs)
        activation = self.front()
        given = stitched, a, b, inputs, targets.hard(labels), optimizer
        options = {"activation": activation, "key": jax.random.key(1)}
        self._train = functools.partial(stitching.train, *given, **options)
        self._train_many = functools.partial(stitching.train_many, *given, **options)
        self._by_hand = Loop(on_activations(cut.back), optimizer)
        self._two_passes = Loop(two_passes(module, path), optimizer)
        self._cached, self._data = (b, activation, labels), (a, b, inputs, labels)

    def one(self, steps: int, batch_size: int) -> Any:
        initial = self._starts[0]
        return self._train(steps=steps, batch_size=batch_size, initial=initial).losses

    def many(self, steps: int, batch_size: int) -> Any:
        initial = stitching.each(self._starts)
        found = self._train_many(steps=steps, batch_size=batch_size, initial=initial)
        return [each.losses for each in found]

    def by_hand(self, steps: int, batch_size: int) -> Any:
        batches = _minibatches(steps, batch_size)
        return self._by_hand.train(self._starts[0]["params"], self._cached, batches)

    def two_passes(self, steps: int, batch_size: int) -> Any:
        batches = _minibatches(steps, batch_size)
        return self._two_passes.train(self._starts[0]["params"], self._data, batches)


def _minibatches(steps: int, batch_size: int) -> Any:
    """Rows of the minibatches, in a random order in each epoch."""
    rng, each = np.random.default_rng(0), _ROWS // batch_size
    for first in range(0, steps, each):
        order = rng.permutation(_ROWS)[: each * batch_size].reshape(each, batch_size)
        yield from order[: steps - first]
