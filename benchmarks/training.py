"""Training many runs of one network at once, and recording what happens.

`fit` trains R runs that differ in their key, variables and hyper-parameters. How they
are advanced follows from a rule, so that the same call gives the same bits on the same
kind of machine:

=================================  ===============================================
on a GPU or TPU                    all runs vmapped, in one compiled loop over steps
on a CPU, up to 2¹⁵ parameters     the same
on a CPU, more parameters          run by run, each in a compiled loop
on a CPU, where the loss convolves run by run, from Python over a compiled step
=================================  ===============================================

On a CPU, gradients of convolutions in a compiled loop, and convolutions vmapped over
weights, are 3 to 20 times slower than the last; larger products of matrices occupy the
cores by themselves.
"""

import functools
import io
import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.runs import write_atomically

# Time between two checkpoints, at least.
CHECKPOINT_SECONDS = 5.0
# Steps between two reports of progress, at most.
_SEGMENT = 100
# Parameters of runs that are vmapped on a CPU, at most.
_SMALL = 2**15

Optimizer = Callable[[dict[str, jax.Array]], optax.GradientTransformation]


class CheckpointError(ValueError):
    """A checkpoint that is damaged or belongs to another training."""


class Fit(NamedTuple):
    """R runs at the end of a training, with E evaluations."""

    variables: Any  # parameters under "params", and statistics; leading axis R
    opt_state: Any  # the optimizers' states; leading axis R
    measured: Any  # what `evaluate` returned; leading axes R, E
    # Mean loss of the minibatches since the evaluation before; (R, E).
    batch_loss: np.ndarray
    # Of one run: the median over the intervals between evaluations, compilation
    # and evaluation excluded.
    seconds_per_step: float
    # Of one run up to each evaluation, likewise, mean over the runs; NaN where they
    # were vmapped, so that the time of one was not measured; (E,).
    seconds: np.ndarray
    bytes_per_parameter: float  # bytes of optimizer state per parameter
    one_by_one: bool  # whether runs took turns, rather than being vmapped


class _Program(NamedTuple):
    """What is static in a training step; equal programs share compilations."""

    loss: Callable
    optimizer: Optimizer
    batch_size: int


class _State(NamedTuple):
    params: Any
    statistics: Any
    opt_state: Any
    loss_sum: jax.Array


def fit(
    loss: Callable[[Any, Any, Any, jax.Array, Any], tuple[jax.Array, Any]],
    variables: Mapping[str, Any],
    optimizer: Optimizer,
    data: Any,
    *,
    key: jax.Array,
    steps: int,
    batch_size: int,
    hyper: Mapping[str, Any],
    points: Sequence[int] = (),
    evaluate: Callable[..., Any] = lambda variables, opt_state, step: {},
    evaluation_data: tuple = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Train R runs that differ in key, variables and hyper-parameters.

    Each epoch is a fresh permutation of the rows; rows that do not fill a minibatch are
    left out of it. Runs with equal keys see the same minibatches. The result does not
    depend on where a training was interrupted and resumed.

    Trainings with equal (and hashable) `loss`, `optimizer` and `evaluate` and the same
    shapes share their compilations.

    Args:
        loss: `loss(params, statistics, batch, key, step)` returns the loss and new
            statistics; steps count from 0.
        variables: parameters under "params", statistics under other names; leading axis
            R.
        optimizer: makes the optimizer from a run's hyper-parameters, traced scalars.
        data: arrays with a common leading axis of rows.
        key: R keys: of the order of rows and of what `loss` draws.
        steps: optimizer steps.
        batch_size: rows of a minibatch.
        hyper: hyper-parameters by name, arrays with a leading axis R.
        points: steps after which the runs are evaluated, ascending; 0 is before
            training.
        evaluate: `evaluate(variables, opt_state, step, *evaluation_data)` returns
            arrays, after that step; it is compiled, and vmapped or called for each run.
        evaluation_data: arrays that it reads.
        checkpoint: a file that unfinished training is kept in, and resumed from.
        progress: called as `progress(done, total)`, in steps.

    Raises:
        CheckpointError: if the checkpoint is damaged or of another training.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> def loss(params, statistics, batch, key, step):
        ...     return jnp.mean((params - batch) ** 2), statistics
        >>> found = fit(
        ...     loss, {"params": jnp.zeros(2)},
        ...     lambda hyper: optax.sgd(hyper["learning_rate"]), jnp.ones((8, 1)),
        ...     key=jax.random.split(jax.random.key(0), 2), steps=10, batch_size=4,
        ...     hyper={"learning_rate": jnp.array([0.0, 0.5])},
        ... )
        >>> found.variables["params"].tolist()
        [0.0, 1.0]
    """
    rows = len(jax.tree.leaves(data)[0])
    if not 1 <= batch_size <= rows:
        raise ValueError(
            f"batch_size: expected at most {rows}, the training rows, got {batch_size}"
        )
    program = _Program(loss, optimizer, batch_size)
    runs = _Runs(program, variables, key, dict(hyper), data)
    recorder = _Recorder(runs, points, evaluate, evaluation_data)
    per_epoch, done, store = rows // batch_size, 0, None
    if checkpoint is not None:
        asked = steps, batch_size, tuple(points), key, dict(hyper)
        store = _Store(checkpoint, asked)
        found = store.restore(recorder.content(done))
        if found is not None:
            done = recorder.restore(found)
    runs.compile(done, per_epoch)
    saved = time.monotonic()
    recorder.record(done)
    while done < steps:
        ends = [steps, done + _SEGMENT, done - done % per_epoch + per_epoch]
        stop = min(end for end in (*ends, *points) if end > done)
        start = time.perf_counter()
        runs.advance(done, stop - done, per_epoch)
        recorder.took(stop - done, time.perf_counter() - start)
        done = stop
        if progress is not None:
            progress(done, steps)
        if store is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            store.save(recorder.content(done))
            saved = time.monotonic()
        recorder.record(done)
    variables, opt_state = runs.read()
    size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(opt_state))
    return Fit(
        variables,
        opt_state,
        recorder.measured,
        recorder.batch_loss,
        recorder.seconds_per_step(),
        recorder.seconds_before(),
        state / size,
        runs.one_by_one,
    )


def for_each_run(
    function: Callable, runs: tuple, *shared: Any, one_by_one: bool = False
) -> Any:
    """Return `function(*run, *shared)` of every run, stacked as NumPy arrays."""
    if not one_by_one:
        return jax.device_get(_call(function, True, runs, shared))
    each = unstacked(runs)
    found = [jax.device_get(_call(function, False, run, shared)) for run in each]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


class _Recorder:
    """What is measured of all runs at some points of a training, in arrays."""

    def __init__(self, runs, points, evaluate, evaluation_data):
        self._runs, self._points = runs, list(points)
        self._evaluate, self._data = evaluate, evaluation_data
        states = runs.read()
        one = jax.tree.map(lambda x: x[0], states)
        shape = len(jax.tree.leaves(states)[0]), len(points)
        self.measured = jax.tree.map(
            lambda x: np.zeros((*shape, *x.shape), x.dtype),
            jax.eval_shape(evaluate, *one, 0, *evaluation_data),
        )
        self.batch_loss = np.full(shape, np.nan, np.float32)
        # Of one step of one run, between each point and the one before.
        self._seconds = np.full(len(points), np.nan, np.float32)
        # Steps since the last point; how many of them took how long in this process.
        self._since = self._timed = 0
        self._spent = 0.0

    def took(self, steps: int, seconds: float) -> None:
        """Note that steps were taken."""
        self._since += steps
        self._timed += steps
        self._spent += seconds

    def record(self, done: int) -> None:
        """Evaluate the runs, if this is one of the points and not recorded yet."""
        if done not in self._points or not (self._since or done == 0):
            return
        runs, place = self._runs, self._points.index(done)
        given = max(done - 1, 0), *self._data
        found = for_each_run(
            self._evaluate, runs.read(), *given, one_by_one=runs.one_by_one
        )
        pairs = zip(*map(jax.tree.leaves, (self.measured, found)), strict=True)
        for curve, value in pairs:
            curve[:, place] = value
        if self._since:
            self.batch_loss[:, place] = runs.take_loss_sum() / self._since
        if self._timed:
            count = len(self.batch_loss)
            self._seconds[place] = self._spent / self._timed / count
        self._since, self._spent, self._timed = 0, 0.0, 0

    def content(self, done: int) -> tuple:
        """What a checkpoint keeps."""
        counts = np.array([done, self._since])
        arrays = self.measured, self.batch_loss, self._seconds
        return self._runs.states, *arrays, counts

    def restore(self, content: tuple) -> int:
        """Continue from a checkpoint; return how many steps were done."""
        self._runs.states, self.measured, self.batch_loss, *rest = content
        self._seconds, (done, self._since) = rest[0], map(int, rest[1])
        return done

    def seconds_per_step(self) -> float:
        """Return the median over the intervals between points."""
        known = np.isfinite(self._seconds).any()
        return float(np.nanmedian(self._seconds)) if known else float("nan")

    def seconds_before(self) -> np.ndarray:
        """Return the time of one run up to each point, if runs took turns."""
        if not self._runs.one_by_one:
            return np.full(len(self._points), np.nan)
        taken = np.diff(self._points, prepend=0)
        return np.cumsum(np.where(taken, taken * self._seconds, 0.0))


class _Runs:
    """States of all runs: one tree with a leading axis, or one tree per run."""

    def __init__(self, program, variables, key, hyper, data):
        self._program, self._data, self._key = program, data, key
        keys = jax.vmap(lambda one: jax.random.fold_in(one, 2**32 - 1))(key)
        self._orders: tuple[int, Any] = (-1, None)
        statistics = dict(variables)
        params = statistics.pop("params")
        start = _start(program, params, statistics, hyper)
        one = jax.tree.map(lambda x: x[0], start)
        batch = jax.tree.map(lambda x: x[: program.batch_size], data)
        self._mode = mode(program.loss, one.params, one.statistics, batch, keys[0])
        self.one_by_one = self._mode != "vmapped"
        self.states, self._given = self._split(start), self._split((hyper, keys))

    def advance(self, first: int, count: int, per_epoch: int) -> None:
        """Take steps `first` to `first + count`, all in one epoch."""
        epoch, index = divmod(first, per_epoch)
        if self._orders[0] != epoch:
            rows = len(jax.tree.leaves(self._data)[0])
            orders = _permutations(self._key, epoch, rows)
            self._orders = (epoch, self._split(orders))
        for place, (hyper, keys) in enumerate(self._given):
            state, self.states[place] = self.states[place], None  # buffers are donated
            given = hyper, self._orders[1][place], keys
            if self._mode == "stepped":
                for i in range(count):
                    rest = (*given, self._data, first + i, index + i)
                    state = _step(self._program, state, *rest)
            else:
                rest = (given, self._data, first, index, count)
                state = _advance(self._program, self.one_by_one, state, *rest)
            self.states[place] = state
        jax.block_until_ready(self.states)

    def compile(self, first: int, per_epoch: int) -> None:
        """Advance a copy, so that no later clock sees a compilation."""
        states = self.states
        self.states = jax.tree.map(lambda leaf: leaf.copy(), states)
        self.advance(first, 1, per_epoch)
        self.states = states

    def take_loss_sum(self) -> np.ndarray:
        """Return the sum of minibatch losses of each run and reset it."""
        sums = np.concatenate([np.atleast_1d(one.loss_sum) for one in self.states])
        self.states = [
            one._replace(loss_sum=jnp.zeros_like(one.loss_sum)) for one in self.states
        ]
        return sums

    def read(self) -> tuple[Any, Any]:
        """Return variables and optimizers' states, leading axis R."""
        states = self.states[0]
        if self.one_by_one:
            states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.states)
        return {"params": states.params, **states.statistics}, states.opt_state

    def _split(self, tree: Any) -> list[Any]:
        return unstacked(tree) if self.one_by_one else [tree]


def unstacked(tree: Any) -> list[Any]:
    """Return the trees of which a tree is the stack along leading axes."""
    count = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]


def mode(
    loss: Callable, params: Any, statistics: Any, batch: Any, key: jax.Array
) -> Literal["vmapped", "compiled", "stepped"]:
    """Return how runs are advanced whose loss is called with these arguments."""
    if jax.default_backend() != "cpu":
        return "vmapped"
    jaxpr = jax.make_jaxpr(loss)(params, statistics, batch, key, 0)
    if "conv_general_dilated" in str(jaxpr):
        return "stepped"
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return "vmapped" if size <= _SMALL else "compiled"


@functools.partial(jax.jit, static_argnums=0)
def _start(program, params, statistics, hyper):
    def one(params, statistics, hyper):
        opt_state = program.optimizer(hyper).init(params)
        return _State(params, statistics, opt_state, jnp.zeros(()))

    return jax.vmap(one)(params, statistics, hyper)


def _one_step(program, state, hyper, order, key, data, step, index):
    """Take the step whose minibatch is number `index` of the epoch's order."""
    size = program.batch_size
    rows = jax.lax.dynamic_slice(order, (index * size,), (size,))
    batch = jax.tree.map(lambda x: x[rows], data)
    (loss, statistics), grads = jax.value_and_grad(program.loss, has_aux=True)(
        state.params, state.statistics, batch, jax.random.fold_in(key, step), step
    )
    optimizer = program.optimizer(hyper)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return _State(params, statistics, opt_state, state.loss_sum + loss)


_step = jax.jit(_one_step, static_argnums=0, donate_argnums=1)


# The number of steps is traced: one compilation serves segments of every length.
@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _advance(program, one_by_one, states, given, data, first, index, count):
    def body(i, states):
        def step(state, hyper, order, key):
            rest = (data, first + i, index + i)
            return _one_step(program, state, hyper, order, key, *rest)

        return (step if one_by_one else jax.vmap(step))(states, *given)

    return jax.lax.fori_loop(0, count, body, states)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _call(function, vmapped, run, shared):
    def one(*run):
        return function(*run, *shared)

    return (jax.vmap(one) if vmapped else one)(*run)


@functools.partial(jax.jit, static_argnums=2)
def _permutations(keys, epoch, rows):
    def permutation(key):
        return jax.random.permutation(jax.random.fold_in(key, epoch), rows)

    return jax.vmap(permutation)(keys).astype(jnp.int32)


class _Store:
    """A file with the latest state of a training, and of which training it is."""

    def __init__(self, path: str | os.PathLike[str], asked: Any):
        self._path = Path(path)
        self._asked = [_as_numpy(leaf) for leaf in jax.tree.leaves(asked)]

    def save(self, tree: Any) -> None:
        arrays = self._asked + [_as_numpy(leaf) for leaf in jax.tree.leaves(tree)]
        file = io.BytesIO()
        np.savez(file, _kinds(arrays), *arrays)
        write_atomically(self._path, file.getvalue())

    def restore(self, like: Any) -> Any:
        """Return what was saved, in the structure of `like`, or None."""
        if not self._path.exists():
            return None
        advice = "delete it to start again, or name another"
        try:
            with np.load(self._path, allow_pickle=False) as file:
                kinds, *found = file.values()
        except Exception as error:  # a parser of damaged bytes may raise anything
            cause = textwrap.shorten(str(error), 100)
            raise CheckpointError(
                f"checkpoint: {self._path} is damaged ({cause}); {advice}"
            ) from error
        leaves, structure = jax.tree.flatten(like)
        expected = self._asked + [_as_numpy(leaf) for leaf in leaves]
        asked, found = found[: len(self._asked)], found[len(self._asked) :]
        same = [x.tobytes() for x in asked] == [x.tobytes() for x in self._asked]
        if not (same and np.array_equal(kinds, _kinds(expected))):
            raise CheckpointError(
                f"checkpoint: {self._path} belongs to another training, whose network, "
                f"optimizer, hyper-parameters, keys or steps differ; {advice}"
            )
        return jax.tree.unflatten(structure, map(_as_saved, found, leaves))


def _as_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _as_saved(found: np.ndarray, like: Any) -> Any:
    """An array of a file as the leaf that it was."""
    if _is_key(like):
        implementation = jax.random.key_impl(like)
        return jax.random.wrap_key_data(jnp.array(found), impl=implementation)
    found = found.view(like.dtype)  # of bfloat16, NumPy reads the bytes only
    return jnp.array(found) if isinstance(like, jax.Array) else found


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _kinds(arrays: list[np.ndarray]) -> np.ndarray:
    """The dtype and shape of each array, in words."""
    return np.array([f"{array.dtype}{array.shape}" for array in arrays])
