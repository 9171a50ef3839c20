"""Training many runs of one network and recording what happens."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.training import _checkpoint, _strategy, _task
from benchmarks.training._history import History, Plan
from benchmarks.training._task import Data, Score, Task


def train(
    task: Task,
    make_optimizer: Callable[[dict[str, jax.Array]], optax.GradientTransformation],
    hyper: Mapping[str, Any],
    seeds: Sequence[int] | np.ndarray,
    plan: Plan,
    *,
    eval_params: Callable[[Any, Any], Any] | None = None,
    probe: Callable[[Any], dict[str, jax.Array]] | None = None,
    segment: int | None = None,
    strategy: _strategy.Strategy | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    r"""Trains R runs of one network, which differ in seed and hyper-parameters.

    A run's start and the order of its data follow from its seed alone: runs of
    different optimizers with one seed are paired. Each epoch is a fresh permutation;
    rows that do not fill a minibatch wait for the next epoch. The result depends
    neither on `segment` nor on where a training was interrupted and resumed.

    Args:
      task: What is trained, from `make_task`.
      make_optimizer: Makes the optimizer from a run's hyper-parameters, which are
        traced scalars, so that one compilation serves every run. Schedules are built
        inside from the traced rates. Trainings with the same (equal and hashable)
        function share their compilations.
      hyper: Hyper-parameters by name, arrays with a leading axis of runs.
      seeds: A seed for each run.
      plan: Steps, minibatches and evaluation points.
      eval_params: `eval_params(opt_state, params)` gives the parameters to evaluate,
        for methods that judge another point than they step from. Running statistics
        stay those of the training steps.
      probe: `probe(opt_state)` gives small arrays to record at each point.
      segment: Most steps between two reports of progress; by default the steps between
        evaluation points.
      strategy: One of `STRATEGIES`; by default the fastest here, by timing.
      checkpoint: A file that unfinished training is kept in, written at every
        evaluation point and resumed from if it is there.
      progress: Called as `progress(done, total)`, in steps, after each segment.

    Returns:
      The history of all runs.

    Raises:
      ValueError: If hyper-parameters and seeds differ in number, a minibatch is larger
        than the training data, or an option is out of range.
      CheckpointError: If the checkpoint is damaged or of another training.

    Example:
      >>> import flax.linen as nn, numpy as np, optax
      >>> from benchmarks.training import Plan, make_task, train
      >>> from types import SimpleNamespace as Bag
      >>> class Linear(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, inputs, train=False):
      ...         return nn.Dense(2)(inputs)
      >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
      >>> split = Bag(inputs=x, targets=(x[:, 0] > 0).astype(np.int32))
      >>> data = Bag(name="half", train=split, validation=split, test=split)
      >>> history = train(
      ...     make_task(data, Linear()),
      ...     lambda hyper: optax.sgd(hyper["learning_rate"]),
      ...     {"learning_rate": [0.1, 1.0]},
      ...     seeds=[0, 0],
      ...     plan=Plan(steps=20, batch_size=16, evaluations=2),
      ...     strategy="scan",
      ... )
      >>> history.train_loss.shape, bool(np.all(history.test_accuracy > 0.8))
      ((2, 2), True)
    """
    seeds = np.asarray(seeds)
    hyper = _checked_hyper(hyper, seeds)
    _check_options(task, plan, segment, strategy)
    path = None if checkpoint is None else Path(checkpoint)
    if strategy is None:
        strategy = _stored_strategy(path) or _strategy.fastest_strategy(
            task, plan.batch_size, len(seeds)
        )
    training = _Training(
        task, make_optimizer, hyper, seeds, plan, strategy, eval_params, probe
    )
    if path is not None and path.exists():
        training.load(path)
    while training.done < plan.steps:
        training.advance(segment or plan.steps)
        if training.done in plan.points:
            training.record()
            if path is not None:
                training.save(path)
        if progress is not None:
            progress(training.done, plan.steps)
    return training.history()


class _Training:
    """Training under way: the runs, and the curves recorded so far."""

    def __init__(
        self, task, make_optimizer, hyper, seeds, plan, strategy, eval_params, probe
    ):
        self._task, self._plan, self._strategy = task, plan, strategy
        self._hyper, self._seeds = hyper, seeds
        self._eval_params, self._probe = eval_params, probe
        # Runs with one seed share their data's order: it is computed once for them.
        unique, self._seed_of_run = np.unique(seeds, return_inverse=True)
        keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(unique)
        self._order_keys = keys[:, 1]
        program = _strategy.Program(task.module, make_optimizer, plan.batch_size)
        example = task.train.inputs[:1]
        start_keys = keys[self._seed_of_run, 0]
        self._fleet = _strategy.make_fleet(
            strategy, program, start_keys, hyper, example
        )
        self._orders: tuple[int, list[jax.Array]] = (-1, [])
        self.done = 0
        self._seconds = 0.0
        self._initial_loss = self._score(
            self._variables(), task.train, plan.curve_rows
        ).loss
        self._curves = self._empty_curves()
        self._compile()

    def advance(self, segment: int) -> None:
        """Takes up to `segment` steps, not beyond an epoch or an evaluation point."""
        per_epoch = len(self._task.train.inputs) // self._plan.batch_size
        epoch, first = divmod(self.done, per_epoch)
        orders = self._orders_of(epoch)
        next_point = next(point for point in self._plan.points if point > self.done)
        steps = min(segment, per_epoch - first, next_point - self.done)
        began = time.perf_counter()
        self._fleet.advance(orders, self._task.train, first, first + steps)
        jax.block_until_ready(self._fleet.runs)
        self._seconds += time.perf_counter() - began
        self.done += steps

    def record(self) -> None:
        """Evaluates the runs at the point that has just been reached."""
        points = (0, *self._plan.points)
        point = points.index(self.done) - 1
        steps = points[point + 1] - points[point]
        variables = self._variables()
        rows = self._plan.curve_rows
        train = self._score(variables, self._task.train, rows)
        validation = self._score(variables, self._task.validation, rows)
        curves = self._curves
        curves["train_loss"][:, point] = train.loss
        curves["validation_loss"][:, point] = validation.loss
        curves["validation_accuracy"][:, point] = validation.accuracy
        curves["train_batch_loss"][:, point] = self._take_loss_sums() / steps
        curves["seconds_per_step"][point] = self._seconds / steps / len(self._seeds)
        self._seconds = 0.0
        for name, value in self._probed().items():
            curves["probes"][name][:, point] = value

    def history(self) -> History:
        """Evaluates the finished runs on whole splits and returns all curves."""
        variables = self._variables()
        train = self._score(variables, self._task.train, self._plan.final_rows)
        validation, test = (
            self._score(variables, data, len(data.inputs))
            for data in (self._task.validation, self._task.test)
        )
        curves = dict(self._curves)
        seconds = float(np.median(curves.pop("seconds_per_step")))
        finite = np.all(np.isfinite(curves["train_loss"]), axis=1)
        risen = curves["train_loss"][:, -1] > self._initial_loss
        return History(
            steps=np.array(self._plan.points),
            **curves,
            final_train_loss=train.loss,
            final_validation_loss=validation.loss,
            final_validation_accuracy=validation.accuracy,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            diverged=~finite | risen | ~np.isfinite(train.loss),
            seconds_per_step=seconds,
            strategy=self._strategy,
            opt_state_bytes_per_parameter=self._opt_state_bytes_per_parameter(),
            variables=self._variables_of_each_run(variables),
        )

    def save(self, path: Path) -> None:
        """Writes the checkpoint."""
        _checkpoint.save(path, self._asked(), self._state())

    def load(self, path: Path) -> None:
        """Goes back to the checkpoint."""
        state = _checkpoint.load(path, self._asked(), self._state())
        self._fleet.runs = jax.tree.map(jnp.asarray, state["runs"])
        self._curves = state["curves"]
        self.done = int(state["done"])

    def _state(self) -> dict[str, Any]:
        runs = self._fleet.runs
        return {"runs": runs, "curves": self._curves, "done": np.array(self.done)}

    def _asked(self) -> dict[str, Any]:
        return {
            "data": self._task.name,
            "module": repr(self._task.module),
            "plan": dataclasses.asdict(self._plan),
            "hyper": {k: np.asarray(v).tolist() for k, v in self._hyper.items()},
            "seeds": self._seeds.tolist(),
            "strategy": self._strategy,
        }

    def _compile(self) -> None:
        """Trains a copy for two steps, so that no later clock sees a compilation."""
        runs = self._fleet.runs
        self._fleet.runs = jax.tree.map(jnp.copy, runs)
        for _ in range(2):
            self._fleet.advance(self._orders_of(0), self._task.train, 0, 1)
        self._fleet.runs = jax.block_until_ready(runs)

    def _orders_of(self, epoch: int) -> list[jax.Array]:
        if self._orders[0] != epoch:
            rows = len(self._task.train.inputs)
            orders = list(_permutations(self._order_keys, epoch, rows))
            self._orders = (epoch, [orders[seed] for seed in self._seed_of_run])
        return self._orders[1]

    def _variables(self) -> Any:
        """Returns the variables to evaluate, of every run."""
        return self._fleet.each(_evaluated, self._eval_params, self._fleet.runs)

    def _variables_of_each_run(self, variables: Any) -> list[Any]:
        stacked = self._fleet.gather(variables)
        return [
            jax.tree.map(lambda leaf, r=r: leaf[r], stacked)
            for r in range(len(self._seeds))
        ]

    def _score(self, variables: Any, data: Data, rows: int) -> Score:
        """Scores every run on the first `rows` rows, or as many as there are."""
        rows = min(rows, len(data.inputs))
        size = min(rows, _task.CHUNK)
        static = (self._task.module, rows, size)
        sums = [
            self._fleet.gather(
                self._fleet.each(_chunk_sums, static, variables, data, start)
            )
            for start in range(0, rows, size)
        ]
        losses, hits = np.sum(np.asarray(sums, np.float64), axis=0) / rows
        return Score(losses, hits)

    def _probed(self) -> dict[str, np.ndarray]:
        if self._probe is None:
            return {}
        return self._fleet.gather(
            self._fleet.each(_probed, self._probe, self._fleet.runs)
        )

    def _empty_curves(self) -> dict[str, Any]:
        runs, points = len(self._seeds), self._plan.evaluations
        names = ("train_loss", "train_batch_loss", "validation_loss")
        curves: dict[str, Any] = {
            name: np.full((runs, points), np.nan)
            for name in (*names, "validation_accuracy")
        }
        curves["seconds_per_step"] = np.full(points, np.nan)
        curves["probes"] = {
            name: np.zeros((runs, points, *value.shape[1:]), value.dtype)
            for name, value in self._probed().items()
        }
        return curves

    def _take_loss_sums(self) -> np.ndarray:
        """Returns each run's sum of minibatch losses and starts the sums afresh."""
        sums = [np.atleast_1d(run.loss_sum) for run in self._each_run()]
        self._fleet.runs = jax.tree.map(
            lambda run: run._replace(loss_sum=jnp.zeros_like(run.loss_sum)),
            self._fleet.runs,
            is_leaf=_is_run,
        )
        return np.concatenate(sums)

    def _opt_state_bytes_per_parameter(self) -> float:
        runs = self._each_run()
        held = sum(
            leaf.nbytes for run in runs for leaf in jax.tree.leaves(run.opt_state)
        )
        parameters = sum(
            leaf.size for run in runs for leaf in jax.tree.leaves(run.params)
        )
        return held / parameters

    def _each_run(self) -> list[_strategy.Run]:
        """Returns the runs one by one, or the one that holds them all stacked."""
        return jax.tree.leaves(self._fleet.runs, is_leaf=_is_run)


def _is_run(node: Any) -> bool:
    return isinstance(node, _strategy.Run)


def _evaluated(eval_params, run):
    params = run.params
    if eval_params is not None:
        params = eval_params(run.opt_state, params)
    return {"params": params, **run.statistics}


def _probed(probe, run):
    return probe(run.opt_state)


def _chunk_sums(static, variables, data, start):
    module, rows, size = static
    return _task.chunk_sums(module, variables, data, start, rows, size)


@functools.partial(jax.jit, static_argnums=2)
def _permutations(keys, epoch, rows):
    def permutation(key):
        return jax.random.permutation(jax.random.fold_in(key, epoch), rows)

    return jax.vmap(permutation)(keys).astype(jnp.int32)


def _checked_hyper(hyper: Mapping[str, Any], seeds: np.ndarray) -> dict[str, jax.Array]:
    if seeds.ndim != 1 or len(seeds) == 0 or seeds.dtype.kind not in "iu":
        raise ValueError(
            f"seeds has shape {seeds.shape} and dtype {seeds.dtype}: expected one"
            " integer for each run, and at least one run."
        )
    arrays = {name: jnp.asarray(value) for name, value in hyper.items()}
    for name, value in arrays.items():
        if value.ndim == 0 or len(value) != len(seeds):
            raise ValueError(
                f"hyper[{name!r}] has shape {value.shape}: expected a leading axis of"
                f" {len(seeds)}, one entry for each seed. Repeat a common value."
            )
    return arrays


def _check_options(task: Task, plan: Plan, segment: int | None, strategy: Any) -> None:
    _task.check_batch(task, plan.batch_size)
    if segment is not None and segment < 1:
        raise ValueError(f"segment is {segment}: expected at least 1 step, or None.")
    if strategy is not None and strategy not in _strategy.STRATEGIES:
        raise ValueError(
            f"strategy is {strategy!r}: expected one of {_strategy.STRATEGIES}, or None"
            " for the fastest."
        )


def _stored_strategy(path: Path | None) -> Any:
    """Returns the strategy of the training that is kept there, if there is one."""
    if path is None or not path.exists():
        return None
    return _checkpoint.read_asked(path).get("strategy")
