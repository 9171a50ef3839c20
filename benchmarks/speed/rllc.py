"""The cost of an optimizer's step: seconds, memory traffic and temporary memory."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rllc
from benchmarks.configs.speed import Rllc as Config
from benchmarks.speed import runner
from benchmarks.speed.runner import Benchmark, Program, Timing

# Matrices and vectors as in a network; the matrices hold 98 % of the parameters.
_SHAPES = (1024, 1024), (1024,)


def optimizers() -> dict[str, tuple[optax.GradientTransformation, int]]:
    """Return each optimizer with the words per parameter that its step must move.

    Adam reads gradient, two moments and parameters, and writes three of them. RLLC with
    k units reads units and gradient for the inner products, reads them again and writes
    the units, and reads and writes the parameters.
    """
    found = {
        "adam": (optax.adam(1e-3), 7),
        "ademamix": (optax.contrib.ademamix(1e-3), 9),
    }
    for decays in ((0.9,), (0.0, 0.9), (0.0, 0.5, 0.9, 0.99)):
        optimizer, units = rllc.rllc(1e-3, memory=rllc.decays(*decays)), len(decays)
        found[f"rllc_{units}"] = optimizer, 3 * units + 4
    return found


def measure(config: Config) -> list[Timing]:
    """Time one jitted step of each optimizer; parameters and state are donated."""
    layers, rest = divmod(config.parameters, 1024 * 1024 + 1024)
    shapes = [*_SHAPES * layers, *([(rest,)] if rest else [])]
    gradient = [jnp.full(shape, 1e-3) for shape in shapes]
    size, known = 4 * config.parameters, optimizers()
    steps = {name: step(one, gradient) for name, (one, _) in known.items()}
    copy, _ = in_place(lambda arrays: [x + 1 for x in arrays], _ones(gradient))
    programs = {name: program for name, (program, _) in steps.items()} | {"copy": copy}
    times = runner.interleaved(programs, config.rounds)
    bandwidth = 2 * size / float(np.median(times["copy"]))  # it reads and writes
    notes = {"copy": {"bandwidth, GB/s": bandwidth / 1e9}}
    for name, (_, words) in known.items():
        notes[name] = {
            "traffic, ms": 1e3 * words * size / bandwidth,
            "temporary, %": 100 * steps[name][1] / size,
        }
    case = f"{config.parameters:,} parameters"
    return runner.timings(case, times, dict.fromkeys(known, ("adam",)), notes)


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
        A program that calls it on its own last value, and the bytes that it needs
        besides arguments and results, as the compiler plans them.
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


BENCHMARK = Benchmark(
    "speed rllc",
    lambda config: {"steps": functools.partial(measure, config)},
    "Traffic: the time to read and write what a step must, at the speed of a copy. "
    "Temporary: memory besides parameters, state and gradient, relative to the "
    "parameters.",
)
