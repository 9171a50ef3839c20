"""The cost of an optimizer's step: seconds, memory traffic and temporary memory."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rllc
from benchmarks._ranges import check_counts
from benchmarks.speed import runner
from benchmarks.speed._result import OptimizerResult, Step
from benchmarks.speed.runner import Advance, Benchmark, Program, Row, quiet

BASELINE = "adam"
# Matrices and vectors as in a network; the matrices hold 98 % of the parameters.
_SHAPES = (1024, 1024), (1024,)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed.

    Args:
      parameters: How many float32 parameters.
      rounds: How often each optimizer is timed, all in turns.
    """

    parameters: int = 10_000_000
    rounds: int = 31

    def __post_init__(self):
        check_counts(self, parameters=1_100_000, rounds=3)


def optimizers() -> dict[str, tuple[optax.GradientTransformation, int]]:
    """Return each optimizer with the words per parameter that its step must move.

    Adam reads gradient, two moments and parameters, and writes three of them. RLLC with
    k units reads units and gradient for the inner products, reads them again and writes
    the units, and reads and writes the parameters.
    """
    decays = {1: (0.9,), 2: (0.0, 0.9), 4: (0.0, 0.5, 0.9, 0.99)}
    return {
        "adam": (optax.adam(1e-3), 7),
        "ademamix": (optax.contrib.ademamix(1e-3), 9),
        **{
            f"rllc_{k}": (rllc.rllc(1e-3, memory=rllc.decays(*each)), 3 * k + 4)
            for k, each in decays.items()
        },
    }


def measure(config: Config, advance: Advance = quiet) -> dict[str, Any]:
    """Time one jitted step of each optimizer; parameters and state are donated.

    Returns:
      The fields of `OptimizerResult`.
    """
    layers, rest = divmod(config.parameters, 1024 * 1024 + 1024)
    shapes = [*_SHAPES * layers, *([(rest,)] if rest else [])]
    gradient = [jnp.full(shape, 1e-3) for shape in shapes]
    size = 4 * config.parameters
    steps = {name: step(one, gradient) for name, (one, _) in optimizers().items()}
    copy, _ = in_place(lambda arrays: [x + 1 for x in arrays], _ones(gradient))
    programs = {name: program for name, (program, _) in steps.items()}
    times = runner.interleaved({**programs, "copy": copy}, config.rounds, advance)
    bandwidth = 2 * size / runner.median(times["copy"])
    return {
        "parameters": config.parameters,
        "copy_bytes_per_second": bandwidth,
        "baseline": BASELINE,
        "steps": {
            name: Step(
                seconds=runner.median(times[name]),
                ratio=runner.ratio(times[name], times[BASELINE]),
                floor_seconds=words * size / bandwidth,
                temporary_share=steps[name][1] / size,
            )
            for name, (_, words) in optimizers().items()
        },
    }


def step(optimizer: optax.GradientTransformation, gradient: Any) -> tuple[Program, int]:
    """Return a program that takes a step from parameters 1, as `in_place` does."""

    def update(carried, gradient):
        params, state = carried
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = _ones(gradient)
    return in_place(update, (params, optimizer.init(params)), gradient)


def in_place(
    function: Callable[..., Any], carried: Any, *fixed: Any
) -> tuple[Program, int]:
    """Compile a function that overwrites its first argument.

    Returns:
      A program that calls it on its own last value, and the bytes that it needs besides
      arguments and results, as the compiler plans them.
    """
    compiled = jax.jit(function, donate_argnums=0).lower(carried, *fixed).compile()

    def program():
        nonlocal carried
        carried = compiled(carried, *fixed)
        return carried

    analysis = compiled.memory_analysis()
    return program, 0 if analysis is None else analysis.temp_size_in_bytes


def _ones(arrays: Any) -> Any:
    return [jnp.ones_like(array) for array in arrays]


def rows(result: OptimizerResult) -> list[Row]:
    """Return the rows of the table of a result."""
    return [
        (
            f"{result.parameters:,} parameters",
            name,
            f"{1e3 * step.seconds:.1f} ms",
            runner.text(step.ratio),
            f"traffic {1e3 * step.floor_seconds:.1f} ms, "
            f"temporary {100 * step.temporary_share:.2f} %",
        )
        for name, step in result.steps.items()
    ]


BENCHMARK = Benchmark(
    "speed rllc",
    OptimizerResult,
    {"steps": measure},
    rows,
    "The baseline is Adam. Traffic: the time to read and write what a step must, at "
    "the speed of a copy. Temporary: memory besides parameters, state and gradient, "
    "relative to the parameters.",
)
