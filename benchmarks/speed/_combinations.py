"""Combinations a second: the engine against a loop that calls a compiled step."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import combinability
from benchmarks._ranges import check_counts, check_positive
from benchmarks.models import MLP, ResNet
from benchmarks.speed._interleaved import interleaved, ratio
from benchmarks.speed._matmul import Matmul, flops

BASELINE = "loop"
_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class CombinationsConfig:
    """What is timed.

    Args:
      rounds: How often the engine and the loop are timed for each case, in turns.
      seconds: How long each takes of the machine in a round, about.
    """

    rounds: int = 7
    seconds: float = 2.0

    def __post_init__(self):
        check_counts(self, rounds=3)
        check_positive(self, "seconds")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and how many images the metric sees."""

    module: nn.Module
    shape: tuple[int, int, int]
    images: int


def cases() -> dict[str, Case]:
    """What is timed, by name."""
    networks = {
        "mlp_3x512": (MLP(_CLASSES, (512, 512, 512)), (28, 28, 1)),
        "resnet20_layernorm": (ResNet(_CLASSES, norm="layer"), (32, 32, 3)),
    }
    return {
        f"{name}_{images}_images": Case(module, shape, images)
        for name, (module, shape) in networks.items()
        for images in (32, 512)
    }


def measure_combinations(
    config: CombinationsConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    selected: dict[str, Case] | None = None,
) -> dict[str, Any]:
    """Times `combinability.evaluate` and a loop over a compiled combine and metric.

    The loop draws and combines in one compiled call and evaluates in another, without
    waiting for either, and fetches its results at the end. The engine is the program
    that `evaluate` chooses by timing for many samples. Tracing, compiling and choosing
    are left out of the ratios and told apart.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in rounds of all cases.
      selected: The cases; by default `cases()`.

    Returns:
      {"baseline", "cases": {NAME: {"images", "samples" (in a round), "batch" and
      "lanes" (that the engine chose), "start_seconds" and "combinations_per_second":
      {"engine", "loop"}, "speedup" (of the engine): {"median", "low", "high"}, "flops"
      (of the metric, for one combination), "matmul_flops_per_second" (of a large
      product, timed in the same turns), "matmul_share" (of that, what the engine
      reaches)}}}.
    """
    selected = cases() if selected is None else selected
    results = {}
    for number, (name, case) in enumerate(selected.items()):

        def report(done: int, total: int, before: int = number * config.rounds) -> None:
            progress(before + done, len(selected) * config.rounds)

        results[name] = _measure(case, config, report)
    return {"baseline": BASELINE, "cases": results}


def combinations_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    rows = [("case", "engine/s", "loop/s", "speedup", "of matmul", "batch", "lanes")]
    for name, case in result["cases"].items():
        speed, times = case["combinations_per_second"], case["speedup"]
        rows.append(
            (
                name.replace("_layernorm", "").replace("_", " "),
                f"{speed['engine']:.1f}",
                f"{speed['loop']:.1f}",
                f"{times['median']:.2f} ({times['low']:.2f} to {times['high']:.2f})",
                f"{100 * case['matmul_share']:.0f} %" if "matmul_share" in case else "",
                str(case["batch"]),
                str(case["lanes"]),
            )
        )
    return rows


def _measure(
    case: Case, config: CombinationsConfig, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    inputs = jax.random.normal(jax.random.key(0), (case.images, *case.shape))
    labels = jnp.arange(case.images) % _CLASSES
    init = jax.jit(case.module.init)
    models = tuple(init(jax.random.key(seed), inputs[:1]) for seed in (1, 2))

    def metric(variables):
        logits = jnp.asarray(case.module.apply(variables, inputs))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    starts, runs = {}, {}
    for name, make in (("engine", _Engine), (BASELINE, _Loop)):
        began = time.perf_counter()
        runs[name] = make(metric, models)
        runs[name](1)
        starts[name] = time.perf_counter() - began
    samples = _samples(runs[BASELINE], config.seconds)
    programs = {name: functools.partial(run, samples) for name, run in runs.items()}
    matmul, each = Matmul(), flops(metric, models[0])
    times = interleaved({**programs, "matmul": matmul}, config.rounds, progress)
    ceiling = matmul.flops / float(np.median(times["matmul"]))
    return {
        "images": case.images,
        "samples": samples,
        "batch": runs["engine"].batch,
        "lanes": runs["engine"].lanes,
        "start_seconds": starts,
        "combinations_per_second": {
            name: samples / float(np.median(times[name])) for name in programs
        },
        "speedup": ratio(times[BASELINE], times["engine"]),
        "flops": each,
        "matmul_flops_per_second": ceiling,
        "matmul_share": each * samples / float(np.median(times["engine"])) / ceiling,
    }


def _samples(run: Callable[[int], object], seconds: float) -> int:
    """How many samples take so long, about."""
    began = time.perf_counter()
    run(2)
    return max(2, round(2 * seconds / (time.perf_counter() - began)))


class _Engine:
    """`combinability.evaluate`."""

    batch, lanes = 1, 1

    def __init__(self, metric, models):
        self._metric, self._models = metric, models

    def __call__(self, samples: int) -> Any:
        return combinability.evaluate(
            self._metric,
            self._models[0],
            self._models[1],
            combinability.uniform(),
            key=jax.random.key(3),
            samples=samples,
        )


class _Loop:
    """A Python loop over a compiled combine and a compiled evaluation."""

    def __init__(self, metric, models):
        @jax.jit
        def combine(key, a, b):
            leaves, structure = jax.tree.flatten(a)
            keys = jax.tree.unflatten(structure, jax.random.split(key, len(leaves)))

            def mixed(key, x, y):
                coefficients = jax.random.uniform(key, x.shape, x.dtype)
                return coefficients * x + (1 - coefficients) * y

            return jax.tree.map(mixed, keys, a, b)

        self._combine, self._metric, self._models = combine, jax.jit(metric), models

    def __call__(self, samples: int) -> Any:
        keys = jax.random.split(jax.random.key(3), samples)
        values = [self._metric(self._combine(key, *self._models)) for key in keys]
        return jax.device_get(values)
