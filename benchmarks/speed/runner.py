"""Measuring speed: programs that take turns, their times, and the table of a result.

Times are medians over rounds, in seconds; ratios of times are taken round by round.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import runs
from benchmarks._launch import Folder, launch
from benchmarks.runs import Number, Progress, Record, Run

Program = Callable[[], Any]
Notes = Mapping[str, float]


class Ratio(Record):
    """The median of a ratio over rounds, with quartiles."""

    median: Number
    low: Number
    high: Number

    def __str__(self) -> str:
        decimals = 2 if self.median >= 0.1 else 4
        found = [f"{x:.{decimals}f}" for x in (self.median, self.low, self.high)]
        return "{} ({} to {})".format(*found)


class Timing(Record):
    """How long a program takes."""

    case: str  # what is computed
    program: str
    seconds: Number
    ratios: dict[str, Ratio]  # of its time to that of other programs, by name
    notes: dict[str, Number]  # other numbers by name and unit: "recovered, %"


class Result(runs.Result):
    """Speed: how long programs take."""

    timings: list[Timing]


class Benchmark(NamedTuple):
    """What one command measures."""

    experiment: str  # a name in `benchmarks.runs.RESULTS`
    cases: Callable[[Any], dict[str, Callable[[], list[Timing]]]]  # of a configuration
    note: str  # which programs are compared, in sentences


def run(benchmark: Benchmark, config: Any, folder: Folder = None) -> tuple[Path, Any]:
    """Measure into a run folder; a finished run is read, not repeated."""

    def measure(config: Any, folder: Path, progress: Progress) -> Result:
        here = Run(benchmark.experiment, config, folder, progress)
        if here.finished:  # no two measurements give the same numbers
            return here.result()
        cases = benchmark.cases(config)
        here.expect(len(cases))
        found = [here.stage(name, compute) for name, compute in cases.items()]
        return here.finish(Result, timings=list(itertools.chain(*found)))

    return launch(measure, benchmark.experiment, config, folder)


def show(benchmark: Benchmark, result: Result, console: Console) -> None:
    """Print the table of a result, and what its columns mean."""
    look: Any = {"pad_edge": False, "show_edge": False, "padding": (0, 1, 0, 0)}
    table, last = Table(box=box.SIMPLE_HEAD, **look), ""
    for name in ("case", "program", "time", "ratio", "notes"):
        right, wrap = name in ("time", "ratio"), name == "notes"
        table.add_column(name, justify="right" if right else "left", no_wrap=not wrap)
    for one in result.timings:
        ratios = "\n".join(map(str, one.ratios.values()))
        notes = ["\n".join(f"to {name}" for name in one.ratios)] * bool(ratios)
        for key, value in one.notes.items():
            name, _, unit = key.partition(", ")
            notes.append(f"{name} {value:.4g} {unit}".rstrip())
        case, last = one.case * (one.case != last), one.case
        first = case, one.program, _time(one.seconds)
        table.add_row(*first, ratios, ", ".join(notes))
    console.print(
        table,
        f"Medians of {result.config['rounds']} rounds, in each of which every program "
        f"ran once; ratios to the named program with quartiles. {benchmark.note}",
        sep="\n\n",
        highlight=False,
    )


def _time(seconds: float) -> str:
    scales = {"s": 1.0, "ms": 1e3, "µs": 1e6}
    unit = "s" if seconds >= 1 else "ms" if seconds >= 1e-3 else "µs"
    return f"{scales[unit] * seconds:.3g} {unit}"


def interleaved(programs: Mapping[str, Program], rounds: int) -> dict[str, np.ndarray]:
    """Time programs alternately, so that the machine's load affects all alike.

    Each is called once before, which compiles it.

    Example:
        >>> interleaved({"nothing": lambda: None}, rounds=3)["nothing"].shape
        (3,)
    """
    times = {name: np.empty(rounds) for name in programs}
    for index in range(-1, rounds):
        for name, program in programs.items():
            seconds = timed(program)
            if index >= 0:
                times[name][index] = seconds
    return times


def first_calls(
    build: Callable[[], Mapping[str, Program]], rounds: int = 3
) -> dict[str, np.ndarray]:
    """Time first calls of new programs, which trace and compile without a cache."""
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


def timings(
    case: str,
    times: Mapping[str, np.ndarray],
    against: Mapping[str, Sequence[str]],
    notes: Mapping[str, Notes] = MappingProxyType({}),
) -> list[Timing]:
    """Return what the times of programs say, each `against` some of the others."""

    def ratio(rounds: np.ndarray) -> Ratio:
        low, middle, high = np.quantile(rounds, [0.25, 0.5, 0.75]).tolist()
        return Ratio(median=middle, low=low, high=high)

    return [
        Timing(
            case=case,
            program=name,
            seconds=float(np.median(seconds)),
            ratios={n: ratio(seconds / times[n]) for n in against.get(name, ())},
            notes=dict(notes.get(name, {})),
        )
        for name, seconds in times.items()
    ]
