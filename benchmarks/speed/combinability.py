"""Weight matching against a plain loop, and `evaluate` against the same by hand."""

import functools
import itertools
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scipy.optimize import linear_sum_assignment

import combinability
from benchmarks.configs.speed import Combinability as Config
from benchmarks.models import CNN, MLP, CharTransformer, ResNet
from benchmarks.speed import runner
from benchmarks.speed.runner import Benchmark, Timing
from combinability import Symmetry, permutations, weight_matching

_NOISE, _MAX_SWEEPS, _CLASSES = 0.3, 100, 10


def time_matching(
    case: str, network: nn.Module, inputs: jax.Array, config: Config
) -> list[Timing]:
    """Time weight matching of a network and a permuted and noisy copy.

    The noise has 0.3 standard deviations of each array. The loop and `identity` start
    from the identity, `pinned` from the axes that are not permuted.
    """
    symmetry, a, b, back = planted(network, inputs, config.seed)
    options = {"key": jax.random.key(config.seed), "max_sweeps": _MAX_SWEEPS}
    ours = functools.partial(weight_matching, symmetry, a, b, **options)
    programs = {
        "identity": lambda: ours()[:2],
        "pinned": lambda: ours(start="pinned")[:2],
        "loop": lambda: match_by_loop(symmetry, a, b, config.seed),
    }
    times, notes = runner.interleaved(programs, config.rounds), {}
    for name, program in programs.items():
        permutation, objective = program()
        recovered = 1 - float(permutations.distance(permutation, back))
        notes[name] = {"objective": float(objective), "recovered, %": 100 * recovered}
    return runner.timings(case, times, dict.fromkeys(programs, ("loop",)), notes)


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


def match_by_loop(
    symmetry: Symmetry, a: Any, b: Any, seed: int
) -> tuple[dict[str, Any], float]:
    """Match weights in the manner of Git Re-Basin's published implementation.

    For each group in random order, for each array that carries it: permute all other
    axes of b's array, bring the group's axis of both to the front, flatten the others
    and add the matrix product; then SciPy assigns. Until no group improves. No group
    may lie within another or on two axes of one array.

    Returns:
        The permutation of b, and the inner product of the aligned weights.
    """
    blocks_a, blocks_b = symmetry.split(a), symmetry.split(b)
    permutation: dict[str, Any] = {
        name: jnp.arange(group.size) for name, group in symmetry.groups.items()
    }
    rng = np.random.default_rng(seed)
    for _ in range(_MAX_SWEEPS):
        improved = False
        for name in map(str, rng.permutation([*permutation])):
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


def time_large(name: str) -> list[Timing]:
    """Time one matching of two networks with random weights.

    The inference of the symmetry is not timed.
    """
    network, inputs, function = LARGE[name]
    init = jax.jit(network.init)
    a, b = (init(jax.random.key(seed), inputs) for seed in (0, 1))
    symmetry = combinability.infer_symmetry(network.apply, a, inputs, certify=False)
    wall, cpu = time.perf_counter(), time.process_time()
    matching = function(symmetry, a, b, key=jax.random.key(0))
    times = {function.__name__: np.array([time.perf_counter() - wall])}
    notes = {
        "all threads, s": time.process_time() - cpu,
        "at most, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "parameters, M": sum(leaf.size for leaf in jax.tree.leaves(a)) / 1e6,
        "groups": len(symmetry.groups),
        "sweeps": len(matching.history) - 1,
        "objective": float(matching.objective),
    }
    return runner.timings(name, times, {}, {function.__name__: notes})


_VECTOR, _TEXT = jnp.zeros((1, 784)), jnp.zeros((1, 8), int)
# Name -> network, inputs, and how it is matched.
LARGE: dict[str, tuple[nn.Module, jax.Array, Callable[..., Any]]] = {
    "MLP 512": (MLP(10, (512,) * 3), _VECTOR, combinability.match),
    "MLP 2048": (MLP(10, (2048,) * 3), _VECTOR, combinability.match),
    "GPT-2-small": (CharTransformer(50257, 768, 12, 12, 1024), _TEXT, weight_matching),
}


_MLP = MLP(_CLASSES, (512, 512, 512))
# Name -> network, shape of an image, and how many the metric sees.
CASES: dict[str, tuple[nn.Module, tuple[int, int, int], int]] = {
    "MLP, 32 images": (_MLP, (28, 28, 1), 32),
    "MLP, 512 images": (_MLP, (28, 28, 1), 512),
    "CNN, 32 images": (CNN(_CLASSES), (32, 32, 3), 32),
}


def time_combinations(name: str, config: Config) -> list[Timing]:
    """Time `evaluate` and two programs with the same combinations of one network.

    First calls, of the smallest number of samples, trace and compile.
    """

    def calls(samples: int, programs: dict[str, Callable[[int], Any]]) -> Any:
        return {n: functools.partial(p, samples) for n, p in programs.items()}

    new, least = functools.partial(evaluations, *CASES[name]), min(config.samples)
    first = runner.first_calls(lambda: calls(least, new()))
    times, programs = {f"{name}, first call": first}, new()
    for samples in config.samples:
        each = runner.interleaved(calls(samples, programs), config.rounds)
        times[f"{name}, {samples} samples"] = each
    against = {"evaluate": ["map", "loop"]}
    found = (runner.timings(what, each, against) for what, each in times.items())
    return list(itertools.chain(*found))


def evaluations(
    module: nn.Module, shape: tuple[int, ...], images: int
) -> dict[str, Callable[[int], Any]]:
    """Return new programs that evaluate so many combinations, by name.

    `map` is `jax.jit` of `jax.lax.map` over samples, `loop` a Python loop over a jitted
    sample. All draw the same coefficients and fetch their values at the end.
    """
    inputs = jax.random.normal(jax.random.key(0), (images, *shape))
    labels = jnp.arange(images) % _CLASSES
    init = jax.jit(module.init)
    a, b = (init(jax.random.key(seed), inputs[:1]) for seed in (1, 2))
    key, distribution = jax.random.key(3), combinability.uniform()

    def metric(variables):
        logits = jnp.asarray(module.apply(variables, inputs))
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


def cases(config: Config) -> dict[str, Callable[[], list[Timing]]]:
    """Return what is timed, by name."""
    image, found = jnp.zeros((1, 32, 32, 3)), {}
    for width in config.widths:
        network = ResNet(10, norm="layer", width=width)
        name = f"matching, width {width}"
        found[name] = functools.partial(time_matching, name, network, image, config)
    for name in CASES:
        found[name] = functools.partial(time_combinations, name, config)
    for name in config.large:
        found[name] = functools.partial(time_large, name)
    return {name.replace(",", "").replace(" ", "_"): one for name, one in found.items()}


BENCHMARK = Benchmark(
    "speed combinability",
    cases,
    "Matching: a permuted and noisy copy of ResNet-20 is aligned to it. The loop is "
    "the same coordinate ascent array by array, with the start of identity; pinned "
    "starts from inputs and outputs. Combinations: map is `jax.jit` of `jax.lax.map`, "
    "loop a Python loop over a jitted sample, both written by hand with the same "
    "combinations. First calls trace and compile.",
)
