"""The cost of an optimizer's step: seconds, memory traffic and temporary memory."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rllc
from benchmarks._ranges import check_counts
from benchmarks.speed._interleaved import interleaved, ratio

BASELINE = "adam"
# Matrices and vectors as in a network; the matrices hold 98 % of the parameters.
_MATRIX = (1024, 1024)
_VECTOR = (1024,)

RLLC_DECAYS = {1: (0.9,), 2: (0.0, 0.9), 4: (0.0, 0.5, 0.9, 0.99)}


@dataclasses.dataclass(frozen=True)
class SpeedConfig:
    """What is timed.

    Args:
      parameters: How many float32 parameters, about.
      rounds: How often each optimizer is timed, all in turns.
    """

    parameters: int = 10_000_000
    rounds: int = 31

    def __post_init__(self):
        check_counts(self, parameters=1_100_000, rounds=3)


def optimizers() -> dict[str, tuple[optax.GradientTransformation, int]]:
    """Each optimizer with the words a parameter that its step cannot avoid to move.

    Adam reads gradient, two moments and parameters and writes three of them. RLLC with
    k units reads units and gradient for the inner products, reads them again, and
    writes the units, and reads and writes the parameters.
    """
    learning = {
        f"rllc_{k}": (rllc.rllc(1e-3, memory=rllc.decays(*decays)), 3 * k + 4)
        for k, decays in RLLC_DECAYS.items()
    }
    return {
        "adam": (optax.adam(1e-3), 7),
        "ademamix": (optax.contrib.ademamix(1e-3), 9),
        **learning,
    }


def measure_steps(
    config: SpeedConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Times one jitted step of each optimizer, parameters and state donated.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in rounds.

    Returns:
      {"parameters", "copy_bytes_per_second", "baseline", "steps": {NAME: {"seconds",
      "ratio": {"median", "low", "high"} to the baseline, "floor_seconds" (the words
      that the step must move, at the speed of a copy), "temporary_share" (bytes
      beside arguments and results, relative to the parameters')}}}.
    """
    shapes = _shapes(config.parameters)
    gradient = [jnp.full(shape, 1e-3) for shape in shapes]
    count = sum(leaf.size for leaf in gradient)
    steps = {
        name: _Step(optimizer, gradient)
        for name, (optimizer, _) in optimizers().items()
    }
    copy = _Copy(gradient)
    times = interleaved({**steps, "copy": copy}, config.rounds, progress)
    bandwidth = 2 * 4 * count / float(np.median(times["copy"]))
    return {
        "parameters": count,
        "copy_bytes_per_second": bandwidth,
        "baseline": BASELINE,
        "steps": {
            name: {
                "seconds": float(np.median(times[name])),
                "ratio": ratio(times[name], times[BASELINE]),
                "floor_seconds": words * 4 * count / bandwidth,
                "temporary_share": steps[name].temporary_bytes / (4 * count),
            }
            for name, (_, words) in optimizers().items()
        },
    }


def step_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    rows = [("step", "ms", f"times {result['baseline']}", "ms of traffic", "temporary")]
    for name, step in result["steps"].items():
        times = step["ratio"]
        rows.append(
            (
                name,
                f"{1e3 * step['seconds']:.1f}",
                f"{times['median']:.2f} ({times['low']:.2f} to {times['high']:.2f})",
                f"{1e3 * step['floor_seconds']:.1f}",
                f"{100 * step['temporary_share']:.2f} %",
            )
        )
    return rows


class _Step:
    """A compiled step that carries its parameters and state from call to call."""

    def __init__(self, optimizer: optax.GradientTransformation, gradient: list):
        def step(params, state, gradient):
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        self.gradient = gradient
        self.params = [jnp.ones_like(leaf) for leaf in gradient]
        self.state = optimizer.init(self.params)
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(
            self.params, self.state, gradient
        )
        self.compiled = lowered.compile()
        analysis = self.compiled.memory_analysis()
        self.temporary_bytes = 0 if analysis is None else analysis.temp_size_in_bytes

    def __call__(self):
        self.params, self.state = self.compiled(self.params, self.state, self.gradient)
        return self.params


class _Copy:
    """Reads and writes every parameter once: the machine's own speed."""

    def __init__(self, gradient: list):
        self.arrays = [jnp.ones_like(leaf) for leaf in gradient]
        self.compiled = jax.jit(
            lambda arrays: [array + 1 for array in arrays], donate_argnums=0
        )

    def __call__(self):
        self.arrays = self.compiled(self.arrays)
        return self.arrays


def _shapes(parameters: int) -> list[tuple[int, ...]]:
    pair = _MATRIX[0] * _MATRIX[1] + _VECTOR[0]
    layers, rest = divmod(parameters, pair)
    return [_MATRIX, _VECTOR] * layers + ([(rest,)] if rest else [])
