"""The batch: how many samples run side by side, chosen by timing."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from combinability._program import Program, Task

# Seconds for which a candidate is timed, after its compilation, and how often.
_TIMING_SECONDS = 0.1
_TURNS = 3
# A larger batch must take at most this share of the best one's time to be preferred.
_GAIN = 0.9
_LARGEST = 1024


def fastest(task: Task, samples: int, batch: int | None = None) -> Program:
    """The program that is expected to evaluate so many samples first.

    A candidate is compiled only while the work left, at the best speed seen, takes
    longer than compiling did. One that does not fit into memory ends the search.

    Args:
        task: what is evaluated.
        samples: how many samples are left.
        batch: given by the user, or None.

    Returns:
        A compiled program.
    """
    first, *others = _candidates(task, samples, batch)
    best = Program(task, *first)
    lanes = min(_lanes(task), -(-samples // best.width))
    if lanes > 1:
        best = _faster(best.in_lanes(lanes), best, samples, gain=1.0)
    for candidate in others:
        if _seconds_per_sample(best, samples) * samples < best.compile_seconds:
            break
        try:
            program = Program(task, *candidate).in_lanes(best.lanes)
            if program.temporary_bytes > _memory(task.devices):
                break
            if _faster(program, best, samples) is best:
                break
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            break
        best = program
    return best


def _faster(
    program: Program, best: Program, samples: int, gain: float = _GAIN
) -> Program:
    """The faster of two programs, timed in turns so that noise meets both alike."""
    turns = [
        (_seconds_per_sample(program, samples), _seconds_per_sample(best, samples))
        for _ in range(_TURNS)
    ]
    taken, before = map(min, zip(*turns, strict=True))
    return program if taken < gain * before else best


def _candidates(
    task: Task, samples: int, batch: int | None
) -> Iterator[tuple[int, bool]]:
    """Batches, and whether their loop is compiled, in the order of trying.

    On a CPU, convolutions whose weights differ from sample to sample are several times
    slower side by side than one by one, and inside a compiled loop their gradients are:
    there a loop in Python is tried instead of larger batches.
    """
    each = -(-samples // len(task.devices))
    first = batch or 1
    if each <= first:
        yield first, False
        return
    yield first, True
    if task.on_cpu and task.convolves:
        yield first, False
    elif batch is None:
        size = 4
        while size <= min(each, _LARGEST):
            yield size, True
            size *= 4


def _lanes(task: Task) -> int:
    """Calls that may run side by side: a CPU's cores, where it is one device."""
    if not task.on_cpu or len(task.devices) > 1:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _seconds_per_sample(program: Program, samples: int) -> float:
    """As timed on whole rounds, after a first one."""
    width = program.width
    began = time.perf_counter()
    program(0, width)
    once = time.perf_counter() - began
    rounds = max(1, int(_TIMING_SECONDS / max(once, 1e-6)))
    count = width * min(rounds, -(-samples // width), 1024)
    began = time.perf_counter()
    program(0, count)
    taken = time.perf_counter() - began
    # The last round is paid for whole.
    return taken / count * (-(-samples // width) * width / samples)


def _memory(devices: Sequence[Any]) -> float:
    """Bytes that a program may take on each device beside what is there."""
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return 0.9 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    if devices[0].platform != "cpu" or not hasattr(os, "sysconf"):
        return float("inf")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total / 4 / len(devices)
