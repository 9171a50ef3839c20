"""Weight matching against a plain loop, and `evaluate` against the same by hand."""

import dataclasses
import functools
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scipy.optimize import linear_sum_assignment

import combinability
from benchmarks._ranges import check_counts
from benchmarks.models import CNN, MLP, CharTransformer, ResNet
from benchmarks.speed import _result as results
from benchmarks.speed import runner
from benchmarks.speed.runner import Advance, Benchmark, Row, quiet
from combinability import Symmetry, permutations, weight_matching
from combinability.matching._match import generator, sweep_orders
from combinability.matching._objective import plan

BASELINE = "loop"
_NOISE, _MAX_SWEEPS, _CLASSES = 0.3, 100, 10


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed: matching of ResNet-20, and combinations.

    Args:
      widths: ResNet-20 with LayerNorm and 16, 32 and 64 channels times each of these is
        matched to a permuted and noisy copy.
      rounds: How often each program is timed, in turns; first calls 3 times.
      samples: Numbers of combinations that are evaluated.
      seed: Of weights, permutations, noise and the order of the groups.
      large: Large networks with random weights that are matched once: "MLP 512",
        "MLP 2048", "ResNet-50", "GPT-2-small" (minutes, and 4 GB of memory).
    """

    widths: tuple[int, ...] = (4, 16)
    rounds: int = 5
    samples: tuple[int, ...] = (48, 300, 1000)
    seed: int = 0
    large: tuple[str, ...] = ()

    def __post_init__(self):
        check_counts(self, widths=1, rounds=3, samples=1, seed=0)
        unknown = [name for name in self.large if name not in LARGE]
        if unknown:
            known = ", ".join(LARGE)
            raise ValueError(f"large: expected some of {known}, got {unknown[0]!r}")


def measure_matching(config: Config, advance: Advance = quiet) -> dict[str, Any]:
    """Time weight matching of a ResNet-20 and a permuted and noisy copy, by width."""
    network = functools.partial(ResNet, 10, norm="layer")
    image = jnp.zeros((1, 32, 32, 3))
    widths = {
        str(width): time_matching(network(width=width), image, config)
        for width in runner.tracked(config.widths, advance)
    }
    return {"matching": results.Matching(baseline=BASELINE, widths=widths)}


def time_matching(
    network: nn.Module, inputs: jax.Array, config: Config
) -> results.MatchingWidth:
    """Time weight matching of a network and a permuted and noisy copy.

    The noise has 0.3 standard deviations of each array. The loop and `"identity"` start
    from the identity and visit groups in the same order; `"pinned"` starts from the
    axes that are not permuted.
    """
    symmetry, a, b, back = planted(network, inputs, config.seed)
    key, terms = jax.random.key(config.seed), plan(symmetry)
    names = [family[0].name for family in terms.families]
    orders = sweep_orders(generator(key), terms, _MAX_SWEEPS)
    orders = [[names[i] for i in order] for order in orders]
    ours = functools.partial(
        weight_matching, symmetry, a, b, key=key, max_sweeps=_MAX_SWEEPS
    )
    programs = {
        BASELINE: functools.partial(match_by_loop, symmetry, a, b, orders),
        "identity": lambda: ours()[:2],
        "pinned": lambda: ours(start="pinned")[:2],
    }
    times = runner.interleaved(programs, config.rounds)
    matching = {}
    for name, program in programs.items():
        permutation, objective = program()
        matching[name] = results.MatchingTime(
            seconds=runner.median(times[name]),
            ratio=runner.ratio(times[name], times[BASELINE]),
            objective=float(objective),
            recovered=1 - float(permutations.distance(permutation, back)),
        )
    return results.MatchingWidth(parameters=_size(a), matching=matching)


def planted(
    network: nn.Module, inputs: jax.Array, seed: int
) -> tuple[Symmetry, Any, Any, Any]:
    """Return a symmetry, weights, a permuted and noisy copy, and what puts it back."""
    keys = jax.random.split(jax.random.key(seed), 4)
    a = _varied(jax.jit(network.init)(keys[0], inputs), keys[1], 0.1)
    symmetry = combinability.infer_symmetry(network.apply, a, inputs)
    back = permutations.random(keys[2], symmetry)
    moved = symmetry.apply(permutations.invert(symmetry, back), a)
    return symmetry, a, _varied(moved, keys[3], _NOISE), back


def _varied(variables: Any, key: jax.Array, noise: float) -> Any:
    """Add noise, relative to the deviation of each array, or to 1 where it is 0."""
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))

    @jax.jit
    def one(leaf: jax.Array, key: jax.Array) -> jax.Array:
        deviation = jnp.where(leaf.std() > 0, leaf.std(), 1)
        return leaf + noise * deviation * jax.random.normal(key, leaf.shape)

    return structure.unflatten([one(x, k) for x, k in zip(leaves, keys, strict=True)])


def _size(variables: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def match_by_loop(
    symmetry: Symmetry, a: Any, b: Any, orders: list[list[str]]
) -> tuple[dict[str, Any], float]:
    """Match weights in the manner of Git Re-Basin's published implementation.

    For each group in random order, for each array that carries it: permute all other
    axes of b's array, bring the group's axis of both to the front, flatten the others
    and add the matrix product; then SciPy assigns. Until no group improves.

    Args:
      symmetry: What may be permuted; no group within another, none on two axes of one
        array.
      a: The network to move towards.
      b: The network to be moved.
      orders: The order of the groups in each sweep.

    Returns:
      The permutation of b, and the inner product of the aligned weights.
    """
    blocks_a, blocks_b = symmetry.split(a), symmetry.split(b)
    permutation: dict[str, Any] = {
        name: jnp.arange(group.size) for name, group in symmetry.groups.items()
    }
    for order in orders:
        improved = False
        for name in order:
            size = symmetry.groups[name].size
            scores = jnp.zeros((size, size))
            for block, x, y in zip(symmetry.blocks, blocks_a, blocks_b, strict=True):
                if name not in block.labels:
                    continue
                axis = block.labels.index(name)
                for other, label in enumerate(block.labels):
                    if label is not None and other != axis:
                        y = jnp.take(y, permutation[label], axis=other)
                x, y = (jnp.moveaxis(z, axis, 0).reshape(size, -1) for z in (x, y))
                scores += x @ y.T
            matrix = np.asarray(scores)
            rows, columns = linear_sum_assignment(matrix, maximize=True)
            new = matrix[rows, columns].sum()
            if new > matrix[rows, permutation[name]].sum() + 1e-6 * abs(new):
                improved = True
                permutation[name] = jnp.asarray(columns)
        if not improved:
            break
    aligned = symmetry.split(symmetry.apply(permutation, b))
    pairs = zip(blocks_a, aligned, strict=True)
    return permutation, sum(float(jnp.vdot(x, y)) for x, y in pairs)


def measure_large(config: Config, advance: Advance = quiet) -> dict[str, Any]:
    """Time the matching of two networks with random weights, one call each.

    The inference of the symmetry is not timed.
    """
    large = {}
    for name in runner.tracked(config.large, advance):
        network, inputs, function = LARGE[name]
        shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
        a, b = (_random_like(shapes, seed) for seed in (0, 1))
        symmetry = combinability.infer_symmetry(network.apply, a, inputs, certify=False)
        wall, cpu = time.perf_counter(), time.process_time()
        matching = function(symmetry, a, b, key=jax.random.key(0))
        large[name] = results.LargeMatching(
            parameters=_size(a),
            groups=len(symmetry.groups),
            seconds=time.perf_counter() - wall,
            cpu_seconds=time.process_time() - cpu,
            gigabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            sweeps=len(matching.history) - 1,
            objective=float(matching.objective),
        )
    return {"large": large} if large else {}


def _random_like(shapes: Any, seed: int) -> Any:
    """Normal numbers, divided by the root of each array's first axis."""
    rng = np.random.default_rng(seed)

    def one(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        scale = max(leaf.shape[0], 1) ** -0.5
        return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree.map(one, shapes)


class _ResNet50(nn.Module):
    """The residual network of depth 50 for ImageNet: He et al., 2016, table 1."""

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        conv = functools.partial(nn.Conv, use_bias=False)
        x = nn.relu(norm()(conv(64, (7, 7), (2, 2))(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, blocks in enumerate((3, 4, 6, 3)):
            channels = 64 * 2**stage
            for block in range(blocks):
                strides = (2, 2) if stage and not block else (1, 1)
                y = nn.relu(norm()(conv(channels, (1, 1))(x)))
                y = nn.relu(norm()(conv(channels, (3, 3), strides)(y)))
                y = norm()(conv(4 * channels, (1, 1))(y))
                if x.shape != y.shape:
                    x = norm()(conv(4 * channels, (1, 1), strides)(x))
                x = nn.relu(x + y)
        return nn.Dense(1000)(x.mean((1, 2)))


_IMAGE, _VECTOR = jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 784))
# Name -> network, inputs, and how it is matched.
LARGE: dict[str, tuple[nn.Module, jax.Array, Callable[..., Any]]] = {
    "MLP 512": (MLP(10, (512,) * 3), _VECTOR, combinability.match),
    "MLP 2048": (MLP(10, (2048,) * 3), _VECTOR, combinability.match),
    "ResNet-50": (_ResNet50(), _IMAGE, weight_matching),
    "GPT-2-small": (
        CharTransformer(50257, 768, 12, 12, 1024),
        jnp.zeros((1, 8), int),
        weight_matching,
    ),
}


class Case(NamedTuple):
    """A network and how many images the metric sees."""

    module: nn.Module
    shape: tuple[int, int, int]
    images: int


_MLP = MLP(_CLASSES, (512, 512, 512))
CASES = {
    "MLP, 32 images": Case(_MLP, (28, 28, 1), 32),
    "MLP, 512 images": Case(_MLP, (28, 28, 1), 512),
    "CNN, 32 images": Case(CNN(_CLASSES), (32, 32, 3), 32),
}


def measure_combinations(config: Config, advance: Advance = quiet) -> dict[str, Any]:
    """Time `combinability.evaluate` and two programs with the same combinations."""
    names = runner.tracked([*CASES], advance)
    cases = {name: time_case(CASES[name], config) for name in names}
    return {"combinations": results.Combinations(cases=cases)}


def time_case(case: Case, config: Config) -> results.CombinationCase:
    """Time the evaluation of combinations of one network on some images.

    First calls, of the smallest number of samples, trace and compile.
    """

    def calls(samples: int, programs: dict[str, Callable[[int], Any]]) -> Any:
        return {n: functools.partial(p, samples) for n, p in programs.items()}

    first = runner.first_calls(lambda: calls(min(config.samples), evaluations(case)))
    programs = evaluations(case)
    times = {
        str(samples): runner.interleaved(calls(samples, programs), config.rounds)
        for samples in config.samples
    }
    return results.CombinationCase(
        images=case.images,
        first_seconds=_medians(first),
        first_ratio=runner.ratio(first["evaluate"], first["map"]),
        seconds={n: _medians(found) for n, found in times.items()},
        to_map={n: runner.ratio(t["evaluate"], t["map"]) for n, t in times.items()},
        to_loop={n: runner.ratio(t["evaluate"], t["loop"]) for n, t in times.items()},
    )


def _medians(times: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: runner.median(values) for name, values in times.items()}


def evaluations(case: Case) -> dict[str, Callable[[int], Any]]:
    """Return new programs that evaluate so many combinations, by name.

    `map` is `jax.jit` of `jax.lax.map` over samples, `loop` a Python loop over a jitted
    sample. All draw the same coefficients and fetch their values at the end.
    """
    inputs = jax.random.normal(jax.random.key(0), (case.images, *case.shape))
    labels = jnp.arange(case.images) % _CLASSES
    init = jax.jit(case.module.init)
    a, b = (init(jax.random.key(seed), inputs[:1]) for seed in (1, 2))
    key, distribution = jax.random.key(3), combinability.uniform()

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


def rows(result: results.CombinabilityResult) -> list[Row]:
    """Return the rows of the table of a result."""
    found: list[Row] = []
    for width, measured in result.matching.widths.items():
        for name, one in measured.matching.items():
            case, seconds = f"width {width}", f"{one.seconds:.2f} s"
            besides = f"objective {one.objective:.6g}, "
            besides += f"recovered {100 * one.recovered:.1f} %"
            found.append((case, name, seconds, runner.text(one.ratio), besides))
    for name, one in (result.large or {}).items():
        case = f"{name}, {one.parameters / 1e6:.1f} M parameters"
        besides = f"{one.groups} groups, {one.sweeps} sweeps, "
        besides += f"{one.cpu_seconds:.1f} s of CPU, {one.gigabytes:.1f} GB at most"
        found.append((case, "matching", f"{one.seconds:.1f} s", "", besides))
    for name, case in result.combinations.cases.items():
        for samples, times in {
            "first call": case.first_seconds,
            **case.seconds,
        }.items():
            ratios = {"map": case.to_map.get(samples, case.first_ratio)}
            if samples in case.to_loop:
                ratios["loop"] = case.to_loop[samples]
            label = f"{name}, {samples}" + " samples" * samples.isdigit()
            seconds = f"{times['evaluate']:.3g} s"
            for other, one in ratios.items():
                besides = f"to {other}, {times[other]:.3g} s"
                found.append((label, "evaluate", seconds, runner.text(one), besides))
    return found


BENCHMARK = Benchmark(
    "speed combinability",
    results.CombinabilityResult,
    {
        "matching": measure_matching,
        "combinations": measure_combinations,
        "large": measure_large,
    },
    rows,
    "Matching: a permuted and noisy copy of ResNet-20 is aligned to it. The baseline "
    "is the same coordinate ascent array by array; identity has its start and its "
    "order, pinned starts from inputs and outputs. Combinations: map is `jax.jit` of "
    "`jax.lax.map`, loop a Python loop over a jitted sample, both written by hand with "
    "the same combinations. First calls trace and compile.",
)
