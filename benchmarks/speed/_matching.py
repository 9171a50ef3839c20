"""The time of weight matching: against a plain loop, and of large networks."""

import dataclasses
import functools
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks._ranges import check_counts
from benchmarks.models import MLP, CharTransformer, ResNet
from benchmarks.speed._interleaved import interleaved, ratio
from benchmarks.speed._matching_loop import match_by_loop
from combinability import Symmetry, _permutation, infer_symmetry
from combinability.matching import match, weight_matching
from combinability.matching._match import generator, sweep_orders
from combinability.matching._objective import plan

BASELINE = "loop"
NOISE = 0.3
MAX_SWEEPS = 100


@dataclasses.dataclass(frozen=True)
class MatchingSpeedConfig:
    """What is timed.

    Args:
      widths: ResNet-20 with LayerNorm and 16, 32 and 64 channels times each of these.
      rounds: How often each program is timed, in turns.
      seed: Of the weights, of the planted permutation and of the order of the groups.
      large: Names in `LARGE` of networks that are matched once.
    """

    widths: tuple[int, ...] = (4, 16)
    rounds: int = 5
    seed: int = 0
    large: tuple[str, ...] = ()

    def __post_init__(self):
        check_counts(self, widths=1, rounds=3, seed=0)
        unknown = [name for name in self.large if name not in LARGE]
        if unknown:
            known = ", ".join(LARGE)
            raise ValueError(f"large: expected some of {known}, got {unknown[0]!r}")


def measure_matching(
    config: MatchingSpeedConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Times weight matching of a ResNet-20 and a permuted and noisy copy.

    The noise has 0.3 standard deviations of each array. The loop and `"identity"` start
    from the identity and visit groups in the same order; `"pinned"` starts from the
    sides.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in rounds.

    Returns:
      {"baseline", "widths": {WIDTH: {"parameters", "matching": {NAME: {"seconds",
      "ratio": {"median", "low", "high"} to the baseline, "objective", "recovered" (the
      fraction of units that are put back)}}}}}.
    """
    done, total = 0, config.rounds * len(config.widths)
    widths: dict[str, Any] = {}
    for width in config.widths:

        def report(number: int, _: int, before: int = done) -> None:
            progress(before + number, total)

        widths[str(width)] = _measure_width(width, config, report)
        done += config.rounds
    return {"baseline": BASELINE, "widths": widths}


def matching_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    heading = ("width", "matching", "s", "times faster", "objective", "units put back")
    rows: list[tuple[str, ...]] = [heading]
    for width, measured in result["widths"].items():
        for name, one in measured["matching"].items():
            times = one["ratio"]
            low, middle, high = (1 / times[q] for q in ("high", "median", "low"))
            rows.append(
                (
                    width,
                    name,
                    f"{one['seconds']:.2f}",
                    f"{middle:.2f} ({low:.2f} to {high:.2f})",
                    f"{one['objective']:.6g}",
                    f"{100 * one['recovered']:.1f} %",
                )
            )
    return rows


def _measure_width(
    width: int, config: MatchingSpeedConfig, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    symmetry, a, b, back = planted(width, config.seed)
    key = jax.random.key(config.seed)
    terms = plan(symmetry)
    names = list(symmetry.groups)
    numbers = np.array([names.index(family[0].name) for family in terms.families])
    orders = numbers[sweep_orders(generator(key), terms, MAX_SWEEPS)]
    found: dict[str, Any] = {}
    ascend = functools.partial(
        weight_matching, symmetry, a, b, key=key, max_sweeps=MAX_SWEEPS
    )

    def loop() -> None:
        found[BASELINE] = match_by_loop(symmetry, a, b, orders)

    def ours() -> None:
        found["identity"] = ascend()[:2]

    def from_the_sides() -> None:
        found["pinned"] = ascend(start="pinned")[:2]

    programs = {BASELINE: loop, "identity": ours, "pinned": from_the_sides}
    times = interleaved(programs, config.rounds, progress)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(a)),
        "matching": {
            name: {
                "seconds": float(np.median(seconds)),
                "ratio": ratio(seconds, times[BASELINE]),
                "objective": float(found[name][1]),
                "recovered": 1 - float(_permutation.distance(found[name][0], back)),
            }
            for name, seconds in times.items()
        },
    }


def planted(width: int, seed: int) -> tuple[Symmetry, Any, Any, Any]:
    """A ResNet-20, a permuted and noisy copy, and what puts the copy back."""
    network = ResNet(10, width=width, norm="layer")
    image = jnp.zeros((1, 32, 32, 3))
    keys = jax.random.split(jax.random.key(seed), 4)
    a = jax.jit(network.init)(keys[0], image)
    a = _varied(a, keys[1], 0.1)
    symmetry = infer_symmetry(network.apply, a, image)
    back = _permutation.random(keys[2], symmetry)
    moved = symmetry.apply(_permutation.invert(symmetry, back), a)
    return symmetry, a, _varied(moved, keys[3], NOISE), back


def _varied(variables: Any, key: jax.Array, noise: float) -> Any:
    """Weights with noise, relative to the deviation of each array, or to 1 without."""
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))

    @jax.jit
    def one(leaf: jax.Array, key: jax.Array) -> jax.Array:
        deviation = jnp.where(leaf.std() > 0, leaf.std(), 1)
        return leaf + noise * deviation * jax.random.normal(key, leaf.shape)

    return structure.unflatten([one(x, k) for x, k in zip(leaves, keys, strict=True)])


def measure_large_matching(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Time the matching of two networks with random weights, one call each.

    Args:
      names: Keys of `LARGE`.

    Returns:
      {NAME: {"parameters", "groups", "seconds", "cpu_seconds" (of all threads),
      "gigabytes" (the peak of the process so far), "sweeps", "objective"}}. The
      inference of the symmetry is not timed.
    """
    found = {}
    for name in names:
        build, inputs, function = LARGE[name]
        network = build()
        shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
        a, b = (_random_like(shapes, seed) for seed in (0, 1))
        symmetry = infer_symmetry(network.apply, a, inputs, certify=False)
        wall, cpu = time.perf_counter(), time.process_time()
        matching = function(symmetry, a, b, key=jax.random.key(0))
        found[name] = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(a)),
            "groups": len(symmetry.groups),
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "sweeps": len(matching.history) - 1,
            "objective": float(matching.objective),
        }
    return found


def large_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    heading = ("network", "parameters", "groups", "s", "CPU s", "sweeps", "peak GB")
    return [
        heading,
        *(
            (
                name,
                f"{one['parameters'] / 1e6:.1f} M",
                str(one["groups"]),
                f"{one['seconds']:.1f}",
                f"{one['cpu_seconds']:.1f}",
                str(one["sweeps"]),
                f"{one['gigabytes']:.1f}",
            )
            for name, one in result.items()
        ),
    ]


class _Bottleneck(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        strides, wide = (self.stride, self.stride), 4 * self.channels
        y = nn.relu(norm()(nn.Conv(self.channels, (1, 1), use_bias=False)(x)))
        y = nn.Conv(self.channels, (3, 3), strides, use_bias=False)(y)
        y = norm()(nn.Conv(wide, (1, 1), use_bias=False)(nn.relu(norm()(y))))
        if x.shape != y.shape:
            x = norm()(nn.Conv(wide, (1, 1), strides, use_bias=False)(x))
        return nn.relu(x + y)


class _ResNet50(nn.Module):
    """The residual network of depth 50 for ImageNet: He et al., 2016, table 1."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(64, (7, 7), (2, 2), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                x = _Bottleneck(64 * 2**stage, stride)(x)
        return nn.Dense(1000)(x.mean((1, 2)))


def _random_like(shapes: Any, seed: int) -> Any:
    """Normal numbers, divided by the root of each array's first axis."""
    rng = np.random.default_rng(seed)

    def one(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        scale = max(leaf.shape[0], 1) ** -0.5
        return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree.map(one, shapes)


# Name -> network, inputs, and how it is matched.
LARGE: dict[str, tuple[Callable[[], nn.Module], jax.Array, Callable[..., Any]]] = {
    "MLP 512": (lambda: MLP(10, (512,) * 3), jnp.zeros((1, 784)), match),
    "MLP 2048": (lambda: MLP(10, (2048,) * 3), jnp.zeros((1, 784)), match),
    "ResNet-50": (_ResNet50, jnp.zeros((1, 64, 64, 3)), weight_matching),
    "GPT-2-small": (
        lambda: CharTransformer(50257, 768, 12, 12, 1024),
        jnp.zeros((1, 8), int),
        weight_matching,
    ),
}
