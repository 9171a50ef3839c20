"""A run of samples in segments, between which progress is told and samples are kept."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from combinability._batch import fastest
from combinability._program import Program, Task
from combinability._samples_file import Finished, SamplesFile

# Seconds of a segment, about.
_SEGMENT_SECONDS = 1.0
# Share of the time that may be spent on writing files.
_WRITING_SHARE = 0.1


def advance(
    task: Task,
    part: range,
    batch: int | None,
    progress: Callable[[int, int], None] | None,
    file: SamplesFile | None,
) -> list[np.ndarray]:
    """Evaluates samples, going on from a file where there is one.

    Args:
        task: what is evaluated.
        part: which samples.
        batch: samples side by side; None for the file's, or the fastest.
        progress: called as `progress(done, len(part))`.
        file: where finished samples are kept.

    Returns:
        The metric's leaves with a leading axis of samples.
    """
    values = [np.empty((len(part), *x.shape), x.dtype) for x in task.metric.outputs]
    done = 0
    finished = file.load() if file else None
    if finished:
        done, batch = finished.done, batch or finished.batch
        _fill(values, 0, finished.leaves)
        if progress:
            progress(done, len(part))
    if done < len(part):
        program = fastest(task, len(part) - done, batch)
        writer = _Writer(file, values, program.batch)
        try:
            for count in _segments(program, part, values, done):
                done += count
                writer.write(done)
                if progress:
                    progress(done, len(part))
        finally:
            writer.write(done, last=True)
    return values


def _segments(
    program: Program, part: range, values: list[np.ndarray], done: int
) -> Iterator[int]:
    """Evaluates segment by segment; yields how many samples each has."""
    count = program.width
    while done < len(part):
        began = time.perf_counter()
        count = min(count, len(part) - done)
        _fill(values, done, program(part.start + done, count))
        seconds = max(time.perf_counter() - began, 1e-6)
        done += count
        yield count
        growth = min(4.0, _SEGMENT_SECONDS / seconds)
        count = max(1, int(count / program.width * growth)) * program.width


def _fill(values: list[np.ndarray], start: int, leaves: list[np.ndarray]) -> None:
    for value, leaf in zip(values, leaves, strict=True):
        value[start : start + len(leaf)] = leaf


class _Writer:
    """Keeps samples in a file, rarely enough to leave the time for evaluation."""

    def __init__(self, file: SamplesFile | None, values: list[np.ndarray], batch: int):
        self._file, self._values, self._batch = file, values, batch
        self._written, self._next = 0, 0.0

    def write(self, done: int, last: bool = False) -> None:
        began = time.perf_counter()
        if self._file is None or done == self._written:
            return
        if last or began >= self._next:
            leaves = [value[:done] for value in self._values]
            self._file.save(Finished(leaves, self._batch))
            self._written = done
            ended = time.perf_counter()
            self._next = ended + (ended - began) / _WRITING_SHARE
