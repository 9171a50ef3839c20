"""Network 1's activations, computed once and kept where they fit."""

import math
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from stitching.training._batches import count, in_batches, rows_like
from stitching.training._program import Data
from stitching.training._task import Given, Task

# Share of the memory that may be taken by activations.
_SHARE = 0.5


class Prepared:
    """The data of stitches, one after another.

    Those of the last one are at hand, so that what stitches have in common is computed
    once; they are let go before others are computed.
    """

    def __init__(self, task: Task, at_once: Sequence[Given]):
        """For stitches of which so many are trained at once."""
        self._task = task
        self._keep = keeps(task, at_once)
        self._last: tuple[Given, Data] | None = None

    def __call__(self, given: Given) -> Data:
        """The data of a stitch."""
        if self._last is None or not _alike(self._last[0], given):
            self._last = None
            self._last = given, _common(self._task, given, self._keep)
        return own(self._last[1], given)


def own(common: Data, given: Given) -> Data:
    """The data of a stitch, with network 1 and its activations from another."""
    return common._replace(
        fixed={k: v for k, v in given.initial.items() if k != "params"},
        variables_2=given.variables_2,
        target=given.target,
        hyperparameters=given.hyperparameters,
    )


def keeps(task: Task, at_once: Sequence[Given]) -> bool:
    """Whether network 1's activations are kept, for stitches trained at once."""
    if task.keep is not None:
        return task.keep
    given, *_ = at_once
    samples = count("x", given.x)
    front = task.program.stitched.cut_1.front
    one = jax.eval_shape(front, given.variables_1, rows_like(given.x, 1))
    number = _distinct(at_once)
    # Several are there once more while they are stacked.
    copies = number if number == 1 else 2 * number
    return copies * samples * _bytes(one) <= _SHARE * _memory()


def _distinct(givens: Sequence[Given]) -> int:
    """How many activations so many stitches have."""
    return len({tuple(map(id, (g.variables_1, g.x, g.activation))) for g in givens})


def _alike(one: Given, other: Given) -> bool:
    return _distinct([one, other]) == 1


def _common(task: Task, given: Given, keep: bool) -> Data:
    """What follows from network 1 and the samples; the rest is open."""
    stitched = task.program.stitched
    activation = given.activation
    if activation is None and keep:
        activation = in_batches(stitched.cut_1.front, given.variables_1, given.x)
    needs_x = activation is None or not stitched.cut_2.is_bottleneck
    return Data(
        fixed=None,
        variables_1=given.variables_1 if activation is None else None,
        variables_2=None,
        activation=jax.tree.map(jnp.asarray, activation),
        x=jax.tree.map(jnp.asarray, given.x) if needs_x else None,
        target=None,
        hyperparameters=None,
    )


def _bytes(tree: PyTree[jax.ShapeDtypeStruct]) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def _memory() -> float:
    """Bytes of the device that are free or, on a CPU, that there are."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if device.platform != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
