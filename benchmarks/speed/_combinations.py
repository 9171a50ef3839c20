"""Speed of `combinability.evaluate` against the same evaluation written by hand."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import combinability
from benchmarks._ranges import check_counts
from benchmarks.models import CNN, MLP
from benchmarks.speed._interleaved import interleaved, ratio

_CLASSES, _KEY = 10, 3


@dataclasses.dataclass(frozen=True)
class CombinationsConfig:
    """What is timed.

    Args:
      rounds: How often each program is timed, in turns; first calls 3 times.
      samples: Numbers of combinations.
    """

    rounds: int = 5
    samples: tuple[int, ...] = (48, 300, 1000)

    def __post_init__(self):
        check_counts(self, rounds=3)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and how many images the metric sees."""

    module: nn.Module
    shape: tuple[int, int, int]
    images: int


def cases() -> dict[str, Case]:
    """What is timed, by name."""
    mlp = MLP(_CLASSES, (512, 512, 512))
    return {
        "MLP, 32 images": Case(mlp, (28, 28, 1), 32),
        "MLP, 512 images": Case(mlp, (28, 28, 1), 512),
        "CNN, 32 images": Case(CNN(_CLASSES), (32, 32, 3), 32),
    }


def measure_combinations(
    config: CombinationsConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    selected: dict[str, Case] | None = None,
) -> dict[str, Any]:
    """Time `combinability.evaluate` and two programs with the same combinations.

    `map` is `jax.jit` of `jax.lax.map` over samples, `loop` a Python loop over a jitted
    sample. All draw from the same distribution and fetch their values at the end.
    First calls trace and compile, with new functions each time.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in numbers of samples of all cases.
      selected: The cases; by default `cases()`.

    Returns:
      {"cases": {NAME: {"images", "first_seconds" (of the smallest number of samples)
      and, by number of samples, "seconds": medians by program; "first_ratio", and by
      number of samples "to_map" and "to_loop": ratios of `evaluate` to the programs}}}.
    """
    selected = cases() if selected is None else selected
    results, total = {}, len(selected) * (1 + len(config.samples))
    done = iter(range(1, total + 1))
    for name, case in selected.items():
        first = _first_calls(case, min(config.samples))
        progress(next(done), total)
        results[name] = {
            "images": case.images,
            "first_seconds": _medians(first),
            "first_ratio": ratio(first["evaluate"], first["map"]),
            **{key: {} for key in ("seconds", "to_map", "to_loop")},
        }
        programs = _programs(case)
        for samples in config.samples:
            calls = {
                program: (lambda call=call, samples=samples: call(samples))
                for program, call in programs.items()
            }
            times = interleaved(calls, config.rounds)
            found = results[name]
            found["seconds"][str(samples)] = _medians(times)
            found["to_map"][str(samples)] = ratio(times["evaluate"], times["map"])
            found["to_loop"][str(samples)] = ratio(times["evaluate"], times["loop"])
            progress(next(done), total)
    return {"cases": results}


def combinations_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    programs = ("evaluate", "map", "loop")
    rows: list[tuple[str, ...]] = [("case", "samples", *programs, "to map", "to loop")]
    for name, case in result["cases"].items():
        first = [f"{case['first_seconds'][p]:.2f} s" for p in programs]
        rows.append((name, "first call", *first, _text(case["first_ratio"]), ""))
        for samples, times in case["seconds"].items():
            each = [f"{1e3 * times[p] / int(samples):.2f} ms" for p in programs]
            ratios = [_text(case[kind][samples]) for kind in ("to_map", "to_loop")]
            rows.append((name, samples, *each, *ratios))
    return rows


def _text(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _medians(times: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.median(values)) for name, values in times.items()}


def _first_calls(case: Case, samples: int) -> dict[str, np.ndarray]:
    """Seconds of first calls, (3,) each, in turns; nothing is read from a cache."""
    times: dict[str, list[float]] = {}
    config: Any = jax.config
    cached = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    try:
        for _ in range(3):
            for name, program in _programs(case).items():
                start = time.perf_counter()
                program(samples)
                times.setdefault(name, []).append(time.perf_counter() - start)
    finally:
        config.update("jax_enable_compilation_cache", cached)
    return {name: np.array(values) for name, values in times.items()}


def _programs(case: Case) -> dict[str, Callable[[int], Any]]:
    """New programs that evaluate so many combinations, by name."""
    inputs = jax.random.normal(jax.random.key(0), (case.images, *case.shape))
    labels = jnp.arange(case.images) % _CLASSES
    init = jax.jit(case.module.init)
    a, b = (init(jax.random.key(seed), inputs[:1]) for seed in (1, 2))
    key, distribution = jax.random.key(_KEY), combinability.uniform()

    def metric(variables):
        logits = jnp.asarray(case.module.apply(variables, inputs))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    def one(index, a, b):
        drawn = distribution.sample(index, a, key=key)
        return metric(combinability.combine(a, b, drawn))

    jitted = jax.jit(one)
    mapped = jax.jit(lambda indices, a, b: jax.lax.map(lambda i: one(i, a, b), indices))

    def evaluate(samples):
        return combinability.evaluate(
            metric, a, b, distribution, key=key, samples=samples
        )

    def by_map(samples):
        return jax.device_get(mapped(jnp.arange(samples, dtype=jnp.uint32), a, b))

    def by_loop(samples):
        return jax.device_get([jitted(np.uint32(i), a, b) for i in range(samples)])

    return {"evaluate": evaluate, "map": by_map, "loop": by_loop}
