"""Measuring speed: programs that take turns, ratios, run folders and tables."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks._launch import Folder, launch
from benchmarks.runs import Progress, Result, Run, read
from benchmarks.speed._result import Ratio

Advance = Callable[[int, int], None]
Program = Callable[[], Any]
# Case, program, time, ratio to the baseline, and what else was measured.
Row = tuple[str, str, str, str, str]
_T = TypeVar("_T")


def quiet(done: int, total: int) -> None:
    """Report no progress."""


class Benchmark(NamedTuple):
    """What one command measures.

    Attributes:
      experiment: A name in `benchmarks.runs.RESULTS`.
      result: The type of the result.
      stages: `compute(config, advance)` by name; each returns fields of the result.
      rows: Of the table of a result: case, program, time, ratio, remarks.
      note: Which programs are compared, in sentences.
    """

    experiment: str
    result: type[Result]
    stages: Mapping[str, Callable[[Any, Advance], dict[str, Any]]]
    rows: Callable[[Any], list[Row]]
    note: str


def run(
    benchmark: Benchmark,
    config: Any,
    folder: Folder = None,
    console: Console | None = None,
) -> tuple[Path, Any]:
    """Measure into a run folder; a finished run is read, not repeated.

    Args:
      benchmark: What is measured.
      config: Its configuration.
      folder: The run folder; by default one that follows from the configuration.
      console: Where progress is shown; by default standard error.

    Returns:
      The run folder and the result.
    """

    def measure(config: Any, folder: Path, progress: Progress) -> Any:
        here = Run(benchmark.experiment, config, folder, progress)
        if here.finished:  # no two measurements give the same numbers
            return read(folder)
        here.expect(len(benchmark.stages))
        fields: dict[str, Any] = {}
        for name, compute in benchmark.stages.items():
            fields |= here.stage(name, lambda c=compute: c(config, here.advance))
        return here.finish(benchmark.result, **fields)

    return launch(measure, benchmark.experiment, config, folder, console)


def show(benchmark: Benchmark, result: Any, console: Console) -> None:
    """Print the table of a result, and what its columns mean."""
    look: Any = {"pad_edge": False, "show_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(box=box.SIMPLE_HEAD, **look)
    for name in ("case", "program", "time", "ratio", "besides"):
        right = name in ("time", "ratio")
        wrap = name == "besides"
        table.add_column(name, justify="right" if right else "left", no_wrap=not wrap)
    for row in benchmark.rows(result):
        table.add_row(*row)
    console.print(
        table,
        f"Medians of {result.config['rounds']} rounds, in each of which every program "
        f"ran once; ratios to the baseline with quartiles. {benchmark.note}",
        sep="\n\n",
        highlight=False,
    )


def interleaved(
    programs: Mapping[str, Program], rounds: int, advance: Advance = quiet
) -> dict[str, np.ndarray]:
    """Time programs in turns, so that the machine's load affects all alike.

    Each runs once per round, after one round that is not timed.

    Args:
      programs: What is timed, by name; each returns arrays, which are waited for.
      rounds: How often each is timed.
      advance: Called as `advance(done, total)` after each round.

    Returns:
      Seconds of each call, shape (rounds,), by name.

    Example:
      >>> times = interleaved({"nothing": lambda: None}, rounds=3)
      >>> times["nothing"].shape
      (3,)
    """
    times = {name: np.empty(rounds) for name in programs}
    for index in range(-1, rounds):
        for name, program in programs.items():
            seconds = timed(program)
            if index >= 0:
                times[name][index] = seconds
        advance(index + 1, rounds)
    return times


def first_calls(
    build: Callable[[], Mapping[str, Program]], rounds: int = 3
) -> dict[str, np.ndarray]:
    """Time first calls, which trace and compile, in turns.

    Args:
      build: Returns new programs, by name; compilations are not read from a cache.
      rounds: How often each is built and timed.

    Returns:
      Seconds of each call, shape (rounds,), by name.
    """
    config: Any = jax.config
    cached = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    try:
        found = [{n: timed(p) for n, p in build().items()} for _ in range(rounds)]
    finally:
        config.update("jax_enable_compilation_cache", cached)
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def timed(program: Program) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - start


def tracked(items: Sequence[_T], advance: Advance) -> Iterator[_T]:
    """Yield items, and report each as done when the next is asked for."""
    for done, item in enumerate(items, 1):
        yield item
        advance(done, len(items))


def median(times: np.ndarray) -> float:
    """Return the median of some times."""
    return float(np.median(times))


def ratio(times: np.ndarray, baseline: np.ndarray) -> Ratio:
    """Return the median over rounds of a time relative to the baseline's."""
    low, middle, high = np.quantile(times / baseline, [0.25, 0.5, 0.75]).tolist()
    return Ratio(median=middle, low=low, high=high)


def text(ratio: Ratio) -> str:
    """Return a ratio as text, with quartiles."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
