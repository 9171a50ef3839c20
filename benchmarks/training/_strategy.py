"""How runs are advanced: which loops are compiled and which are Python's.

A strategy is chosen by timing, here and nowhere else. What is fastest depends on
the network and the machine: on a CPU the gradient of a convolution is several times
slower inside a compiled loop, and again when it is vmapped over weights, so there a
convolutional network is stepped from Python and nothing else is even tried.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.training import _task

STRATEGIES = ("vmap", "scan", "loop")
Strategy = Literal["vmap", "scan", "loop"]

# Seconds for which a strategy is timed, after its compilation, and runs that are
# vmapped then: enough to see the trend, few enough for a slow network.
_TIMING_SECONDS = 0.3
_TIMING_RUNS = 8


@dataclasses.dataclass(frozen=True)
class Program:
    """What is static in a training step; equal programs share compilations."""

    module: nn.Module
    make_optimizer: Callable[[dict[str, jax.Array]], optax.GradientTransformation]
    batch_size: int


class Run(NamedTuple):
    """What one run carries from step to step."""

    params: Any
    statistics: Any
    opt_state: Any
    loss_sum: jax.Array


def start(program: Program, own: tuple[dict[str, Any], dict[str, jax.Array]]) -> Run:
    """Returns a run before its first step, from its variables and hyper-parameters.

    The variables are drawn elsewhere: drawing takes long to compile, and is the same
    for every optimizer.
    """
    variables, hyper = own
    statistics = dict(variables)
    params = statistics.pop("params")
    opt_state = program.make_optimizer(hyper).init(params)
    return Run(params, statistics, opt_state, jnp.zeros(()))


def step(
    program: Program,
    run: Run,
    hyper: dict[str, jax.Array],
    order: jax.Array,
    data: _task.Data,
    index: jax.Array | int,
) -> Run:
    """Takes the step whose minibatch is number `index` of the epoch's order."""
    size = program.batch_size
    rows = jax.lax.dynamic_slice(order, (index * size,), (size,))
    batch = _task.Data(*(x[rows] for x in data))
    gradient = jax.value_and_grad(
        functools.partial(_task.batch_loss, program.module), has_aux=True
    )
    (loss, statistics), grads = gradient(run.params, run.statistics, batch)
    optimizer = program.make_optimizer(hyper)
    updates, opt_state = optimizer.update(grads, run.opt_state, run.params)
    params = optax.apply_updates(run.params, updates)
    return Run(params, statistics, opt_state, run.loss_sum + loss)


class Fleet(Protocol):
    """Runs that train side by side, whichever way they are advanced."""

    runs: Any

    def advance(
        self, orders: Sequence[jax.Array], data: _task.Data, start: int, stop: int
    ) -> None:
        """Takes the epoch's minibatches `start` to `stop` (exclusive) in every run.

        `orders` has each run's order of the training rows in this epoch.
        """
        ...

    def each(self, function: Callable, static: Any, trees: Any, *shared: Any) -> Any:
        """Applies `function(static, tree, *shared)` to every run's tree, compiled."""
        ...

    def gather(self, trees: Any) -> Any:
        """Returns what `each` gave as NumPy arrays with a leading axis of runs."""
        ...


class Sequential:
    """Runs one after another, stepped in a compiled loop or from Python."""

    def __init__(self, program, keys, hyper, example, *, compiled: bool):
        self._program = program
        self._compiled = compiled
        self._hyper = [{k: v[r] for k, v in hyper.items()} for r in range(len(keys))]
        variables = [_apply(_task.init, program.module, key, example) for key in keys]
        self.runs = [
            _apply(start, program, own)
            for own in zip(variables, self._hyper, strict=True)
        ]

    def advance(self, orders, data, start, stop):
        for r, (hyper, order) in enumerate(zip(self._hyper, orders, strict=True)):
            # Taken out of the list while its buffers are given away.
            run, self.runs[r] = self.runs[r], None
            if self._compiled:
                run = _scan(self._program, run, hyper, order, data, start, stop)
            else:
                for index in range(start, stop):
                    run = _step(self._program, run, hyper, order, data, index)
            self.runs[r] = run

    def each(self, function, static, trees, *shared):
        return [_apply(function, static, tree, *shared) for tree in trees]

    def gather(self, trees):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(trees))


class Vmapped:
    """Runs side by side in one vmapped step, in a compiled loop."""

    def __init__(self, program, keys, hyper, example):
        self._program = program
        self._hyper = hyper
        variables = _vmapped_apply(_task.init, program.module, keys, example)
        self.runs = _vmapped_apply(start, program, (variables, hyper))

    def advance(self, orders, data, start, stop):
        self.runs = _vmapped_scan(
            self._program, self.runs, self._hyper, jnp.stack(orders), data, start, stop
        )

    def each(self, function, static, trees, *shared):
        return _vmapped_apply(function, static, trees, *shared)

    def gather(self, trees):
        return jax.device_get(trees)


def make_fleet(
    strategy: Strategy,
    program: Program,
    keys: jax.Array,
    hyper: dict[str, jax.Array],
    example: jax.Array,
) -> Fleet:
    """Returns runs before their first step, to be advanced as `strategy` says."""
    if strategy == "vmap":
        return Vmapped(program, keys, hyper, example)
    return Sequential(program, keys, hyper, example, compiled=strategy == "scan")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(function, static, tree, *shared):
    return function(static, tree, *shared)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _vmapped_apply(function, static, trees, *shared):
    return jax.vmap(lambda tree: function(static, tree, *shared))(trees)


_step = jax.jit(step, static_argnums=0, donate_argnums=1)


# The bounds are traced: one compilation serves segments of every length.
@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _scan(program, run, hyper, order, data, start, stop):
    def body(index, run):
        return step(program, run, hyper, order, data, index)

    return jax.lax.fori_loop(start, stop, body, run)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _vmapped_scan(program, runs, hyper, orders, data, start, stop):
    def body(index, runs):
        return jax.vmap(
            lambda run, one, order: step(program, run, one, order, data, index)
        )(runs, hyper, orders)

    return jax.lax.fori_loop(start, stop, body, runs)


def fastest_strategy(task: _task.Task, batch_size: int, runs: int) -> Strategy:
    """Times the strategies that may be fast for this task and returns the fastest.

    A choice is remembered for equal modules, batches and numbers of runs. It is timed
    with momentum, whatever optimizer is trained later.

    Args:
      task: What is trained.
      batch_size: Rows of a minibatch.
      runs: Number of runs that will be trained together.

    Returns:
      "vmap" (runs vmapped in a compiled loop), "scan" (one after another, each in a
      compiled loop) or "loop" (one after another, a Python loop over compiled steps).

    Raises:
      ValueError: If the minibatch is larger than the training data.
    """
    _task.check_batch(task, batch_size)
    candidates = _candidates(task, runs)
    if len(candidates) == 1:
        return candidates[0]
    key = (task.module, task.train.inputs.shape, batch_size, runs)
    if key not in _fastest:
        program = Program(task.module, _reference_optimizer, batch_size)
        seconds = {s: _seconds_per_step(s, task, program, runs) for s in candidates}
        _fastest[key] = min(candidates, key=lambda s: seconds[s])
    return _fastest[key]


_fastest: dict[tuple, Strategy] = {}


def _reference_optimizer(hyper: dict[str, jax.Array]) -> optax.GradientTransformation:
    return optax.sgd(hyper["learning_rate"], momentum=0.9)


def _candidates(task: _task.Task, runs: int) -> tuple[Strategy, ...]:
    if jax.default_backend() == "cpu":
        if _convolves(task):
            return ("loop",)
        return ("vmap", "scan", "loop") if runs > 1 else ("scan", "loop")
    return ("vmap", "scan") if runs > 1 else ("scan",)


def _convolves(task: _task.Task) -> bool:
    variables = jax.eval_shape(task.init, jax.random.key(0))
    example = task.train.inputs[:1]
    jaxpr = jax.make_jaxpr(lambda v: task.module.apply(v, example, train=False))
    return "conv_general_dilated" in str(jaxpr(variables))


def _seconds_per_step(
    strategy: Strategy, task: _task.Task, program: Program, runs: int
) -> float:
    """Returns the seconds of one step of one run."""
    runs = min(runs, _TIMING_RUNS) if strategy == "vmap" else 1
    keys = jax.random.split(jax.random.key(0), runs)
    hyper = {"learning_rate": jnp.full(runs, 1e-3)}
    fleet = make_fleet(strategy, program, keys, hyper, task.train.inputs[:1])
    orders = [jnp.arange(len(task.train.inputs), dtype=jnp.int32)] * runs

    def seconds(steps: int) -> float:
        began = time.perf_counter()
        fleet.advance(orders, task.train, 0, steps)
        jax.block_until_ready(fleet.runs)
        return time.perf_counter() - began

    seconds(1)
    most = len(task.train.inputs) // program.batch_size
    steps = max(1, min(most, int(_TIMING_SECONDS / seconds(1))))
    return min(seconds(steps), seconds(steps)) / (steps * runs)
