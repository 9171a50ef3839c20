"""A training in segments, between which progress is told and the map is recorded."""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from stitching.direct import Fit
from stitching.training._batches import count
from stitching.training._data import Prepared
from stitching.training._group import (
    Group,
    advancing,
    alone,
    apart,
    at,
    maps,
    side_by_side,
)
from stitching.training._order import minibatches
from stitching.training._program import Run
from stitching.training._strategy import fastest
from stitching.training._task import Given, Strategy, Task

# Seconds of a segment, about, and steps of the first one.
_SEGMENT_SECONDS = 1.0
_FIRST_STEPS = 8

# A run that has ended, and the maps recorded in it, stacked.
Ended = tuple[Run, Fit | None]


def follow(task: Task, givens: Sequence[Given]) -> list[Ended]:
    """Trains all stitches, side by side or one after another."""
    if task.strategy == "vmap":
        return _together(task, givens)
    prepared = Prepared(task, givens[:1])
    strategy = task.strategy or fastest(task, givens, prepared(givens[0]))
    if strategy == "vmap":
        del prepared
        return _together(task, givens)
    return _in_sequence(task, strategy, givens, prepared)


def _in_sequence(
    task: Task, strategy: Strategy, givens: Sequence[Given], prepared: Prepared
) -> list[Ended]:
    ended: list[Ended] = []
    for number, given in enumerate(givens):

        def tell(done, before=number * task.steps):
            _tell(task, before + done, len(givens))

        group = alone(task, given, prepared(given))
        ended += _advance(task, strategy, group, given, tell)
        del group  # and with it activations that the next one may not share
    return ended


def _together(task: Task, givens: Sequence[Given]) -> list[Ended]:
    prepared = Prepared(task, givens)

    def tell(done):
        _tell(task, done * len(givens), len(givens))

    group = side_by_side(task, givens, [prepared(given) for given in givens])
    return _advance(task, "vmap", group, givens[0], tell)


def _tell(task: Task, done: int, stitches: int) -> None:
    if task.progress:
        task.progress(done, task.steps * stitches)


def _advance(
    task: Task,
    strategy: Strategy,
    group: Group,
    given: Given,
    tell: Callable[[int], None],
) -> list[Ended]:
    """Takes all steps of a group."""
    advance = advancing(task, strategy, group)
    samples, record = count("x", given.x), set(task.record)
    recorded = {0: maps(task, group)} if 0 in record else {}
    done = first = 0
    pace = _FIRST_STEPS
    for rows in minibatches(group.key, samples, task.batch_size, task.steps):
        last = min(first + rows.shape[-2], task.steps)
        while done < last:
            end = min(last, done + pace, *(stop for stop in record if stop > done))
            began = time.perf_counter()
            run = advance(group.run, group.data, rows, first, done - first, end - first)
            group = group._replace(run=jax.block_until_ready(run))
            pace = _paced(end - done, time.perf_counter() - began)
            done = end
            if done in record:
                recorded[done] = maps(task, group)
            tell(done)
        first = last
    return _ended(task, group, recorded)


def _paced(steps: int, seconds: float) -> int:
    """How many steps the next segment has at most, after one of so many."""
    growth = min(4.0, _SEGMENT_SECONDS / max(seconds, 1e-6))
    return max(1, int(steps * growth))


def _ended(task: Task, group: Group, recorded: dict[int, Fit]) -> list[Ended]:
    runs = apart(group)
    if not recorded:
        return [(run, None) for run in runs]
    found = [recorded[after] for after in task.record]
    stacked = jax.tree.map(lambda *each: jnp.stack(each, axis=1), *found)
    each = [at(stacked, index) for index in range(len(runs))]
    return list(zip(runs, each, strict=True))
