"""The compiled program that evaluates a run of samples on one or several devices."""

import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from combinability._distribution import Coefficients
from combinability._metric import Metric, trace

_AXIS = "samples"
# What one call may hold of results on a device, and how many steps it may take.
_RESULT_BYTES = 2**26
_MOST_STEPS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is evaluated.

    Attributes:
        combination: (key, sample index, models) -> variables.
        metric: the traced metric.
        key: the key of all draws.
        models: the networks that are combined.
        devices: what is computed on, all of this process.
    """

    combination: Callable[[Any, Any, tuple], PyTree]
    metric: Metric
    key: Any
    models: tuple[PyTree, ...]
    devices: tuple[Any, ...]

    def one(self, index: Any, key: Any, models: Any, captured: Any) -> list[Any]:
        """The metric's leaves for one sample."""
        return self.metric(captured, self.combination(key, index, models))

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are processors."""
        return self.devices[0].platform == "cpu"

    @functools.cached_property
    def convolves(self) -> bool:
        """Whether the metric contains convolutions."""
        return "conv_general_dilated" in str(self.metric.program)


def make_task(
    metric: Callable[[PyTree], PyTree],
    models: tuple[PyTree, ...],
    combined: Callable[[tuple, PyTree], PyTree],
    distribution: Coefficients,
    key: Any,
    devices: tuple[Any, ...],
) -> Task:
    """The task of evaluating a metric on `combined(models, coefficients)`."""
    models = tuple(jax.tree.map(jnp.asarray, model) for model in models)

    def combination(key, index, models):
        return combined(models, distribution.sample(key, index, models[0]))

    example = jax.eval_shape(combination, key, np.uint32(0), models)
    return Task(combination, trace(metric, example), key, models, devices)


class Program:
    """A compiled run of samples: on each device a loop over batches, vmapped within.

    Args:
        task: what is evaluated.
        batch: samples side by side on each device.
        looped: whether a call takes many batches in a compiled loop, or one.

    Attributes:
        lanes: calls side by side, each in a thread of its own: on a CPU a network has
            often too little work for all cores.
        steps: the most batches that a call takes.
        compile_seconds: what compiling took.
    """

    def __init__(self, task: Task, batch: int, looped: bool):
        self.task, self.batch, self.lanes = task, batch, 1
        size = sum(math.prod(x.shape) * x.dtype.itemsize for x in task.metric.outputs)
        most = min(_MOST_STEPS, _RESULT_BYTES // max(1, batch * size))
        self.steps = max(1, most) if looped else 1
        began = time.perf_counter()
        mesh = Mesh(np.array(task.devices), (_AXIS,))
        replicated = NamedSharding(mesh, PartitionSpec())
        self._place = functools.partial(jax.device_put, device=replicated)
        self._arguments = self._place((task.key, task.models, task.metric.captured))
        part = jax.shard_map(
            functools.partial(_part, task, batch, self.steps),
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(_AXIS),
            check_vma=False,
        )
        counters = self._place((np.uint32(0), np.int32(1)))
        self._compiled = jax.jit(part).lower(*counters, *self._arguments).compile()
        self.compile_seconds = time.perf_counter() - began

    def in_lanes(self, lanes: int) -> "Program":
        """The same program with so many calls side by side."""
        program = copy.copy(self)
        program.lanes = lanes
        return program

    @property
    def width(self) -> int:
        """The fewest samples that occupy all devices and lanes."""
        return self.batch * len(self.task.devices) * self.lanes

    @property
    def temporary_bytes(self) -> int:
        """What a device needs beside arguments and results."""
        analysis = self._compiled.memory_analysis()
        return 0 if analysis is None else analysis.temp_size_in_bytes * self.lanes

    def __call__(self, start: int, count: int) -> list[np.ndarray]:
        """The metric's leaves for samples start to start + count, each (count, …)."""
        step = self.batch * len(self.task.devices)
        each = step * min(self.steps, -(-count // self.width))
        runs = [
            (first, min(each, start + count - first))
            for first in range(start, start + count, each)
        ]
        if self.lanes == 1:
            # All are dispatched before the first one is waited for.
            dispatched = [self._dispatch(*run) for run in runs]
            parts = [self._fetch(*call) for call in dispatched]
        else:
            with ThreadPoolExecutor(self.lanes) as pool:
                parts = list(pool.map(self._run, runs))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _run(self, run: tuple[int, int]) -> list[np.ndarray]:
        return self._fetch(*self._dispatch(*run))

    def _dispatch(self, first: int, count: int) -> tuple[list[jax.Array], int, int]:
        steps = -(-count // (self.batch * len(self.task.devices)))
        counters = self._place((np.uint32(first), np.int32(steps)))
        return self._compiled(*counters, *self._arguments), steps, count

    def _fetch(self, leaves: list[jax.Array], steps: int, count: int) -> list:
        return [self._gathered(leaf, steps)[:count] for leaf in leaves]

    def _gathered(self, leaf: jax.Array, steps: int) -> np.ndarray:
        """The filled parts of the devices' buffers, in order of the samples."""
        whole = np.asarray(leaf)
        buffers = whole.reshape(len(self.task.devices), -1, *whole.shape[1:])
        filled = buffers[:, : steps * self.batch]
        return filled.reshape(-1, *whole.shape[1:])


def _part(task, batch, most_steps, start, steps, key, models, captured):
    """One device's part: `steps` batches in a buffer of `most_steps`."""
    device = jax.lax.axis_index(_AXIS).astype(jnp.uint32)
    first = start + device * steps.astype(jnp.uint32) * np.uint32(batch)

    def one(index):
        return task.one(index, key, models, captured)

    def taken(step):
        index = first + step.astype(jnp.uint32) * np.uint32(batch)
        if batch == 1:
            return [leaf[None] for leaf in one(index)]
        return jax.vmap(one)(index + jnp.arange(batch, dtype=jnp.uint32))

    def body(step, buffers):
        return [
            jax.lax.dynamic_update_slice_in_dim(buffer, leaf, step * batch, 0)
            for buffer, leaf in zip(buffers, taken(step), strict=True)
        ]

    if most_steps == 1:
        return taken(jnp.int32(0))
    buffers = [
        jnp.zeros((most_steps * batch, *leaf.shape), leaf.dtype)
        for leaf in task.metric.outputs
    ]
    return jax.lax.fori_loop(jnp.int32(0), steps, body, buffers)
