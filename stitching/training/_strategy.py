"""How steps are taken: which loops are compiled, and which stitches run side by side.

Chosen by timing, here and nowhere else. On a CPU the gradient of a convolution is
several times slower inside a compiled loop, and again when it is vmapped over weights,
so there a step with convolutions is called from Python and nothing else is even tried.
"""

import time
from collections.abc import Sequence

import jax
from jaxtyping import Array

from stitching.training._batches import count
from stitching.training._data import keeps, own
from stitching.training._group import Group, advancing, alone, side_by_side, stackable
from stitching.training._order import minibatches
from stitching.training._program import Data, step
from stitching.training._task import Given, Strategy, Task

# Seconds for which a strategy is timed, after its compilation, and stitches that run
# side by side then: enough to see the trend.
_TIMING_SECONDS = 0.1
_TIMING_STITCHES = 8
# Seconds that compiling the next strategy takes at least, whatever that of one did
# which may have been compiled before.
_COMPILING_SECONDS = 0.5


def fastest(task: Task, givens: Sequence[Given], data: Data) -> Strategy:
    """The strategy that is expected to end first.

    The next one is tried only while all steps, at the best speed seen, take longer than
    compiling it, as may be guessed from the last one. One that does not fit into memory
    is none.

    Args:
        task: what is trained.
        givens: of all stitches.
        data: of the first stitch.

    Returns:
        "vmap" (side by side, in a compiled loop), "scan" (one after another, each in a
        compiled loop) or "loop" (one after another, stepped from Python).
    """
    names = _candidates(task, givens, data)
    if len(names) == 1:
        return names[0]
    best, least = names[0], float("inf")
    for name in names:
        try:
            compiling, seconds = _timed(task, name, givens, data)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            continue
        if seconds < least:
            best, least = name, seconds
        if least * len(givens) * task.steps < max(compiling, _COMPILING_SECONDS):
            break
    return best


def _candidates(
    task: Task, givens: Sequence[Given], data: Data
) -> tuple[Strategy, ...]:
    """What may be fastest, in the order of trying."""
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and _convolves(task, alone(task, givens[0], data)):
        return ("loop",)
    side = len(givens) > 1 and stackable(givens)
    # Computing activations anew for each step costs more than stacking saves.
    side = side and (data.activation is None or keeps(task, givens))
    if on_cpu:
        return ("scan", "vmap", "loop") if side else ("scan", "loop")
    return ("vmap", "scan") if side else ("scan",)


def _convolves(task: Task, group: Group) -> bool:
    def taken(run, data, rows):
        return step(task.program, run, data, rows, 0)

    rows = jax.ShapeDtypeStruct((task.batch_size,), "int32")
    jaxpr = jax.make_jaxpr(taken)(group.run, group.data, rows)
    return "conv_general_dilated" in str(jaxpr)


def _timed(
    task: Task, name: Strategy, givens: Sequence[Given], data: Data
) -> tuple[float, float]:
    """Seconds of the first call, and of a later step of one stitch.

    Side by side, all have the activations of the first: a good guess, and cheaper.
    """
    few = givens[:_TIMING_STITCHES] if name == "vmap" else givens[:1]
    each = [own(data, given) for given in few]
    if name == "vmap":
        group = side_by_side(task, few, each)
    else:
        group = alone(task, few[0], each[0])
    rows = _some_rows(task, group, few[0])
    advance, run = advancing(task, name, group), group.run

    def seconds(steps: int) -> float:
        nonlocal run
        began = time.perf_counter()
        run = jax.block_until_ready(advance(run, group.data, rows, 0, 0, steps))
        return time.perf_counter() - began

    first, once = seconds(1), seconds(1)
    most = min(rows.shape[-2], task.steps)
    steps = max(1, min(most, int(_TIMING_SECONDS / once)))
    return first, min(seconds(steps), seconds(steps)) / (steps * group.size)


def _some_rows(task: Task, group: Group, given: Given) -> Array:
    samples = count("x", given.x)
    return next(minibatches(group.key, samples, task.batch_size, task.steps))
