"""Task-loss matching against loops by hand, and measures from moments."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import stitching
from benchmarks._ranges import check_counts, check_positive
from benchmarks.models import Tiny10
from benchmarks.speed import _result as results
from benchmarks.speed import runner
from benchmarks.speed.runner import Advance, Benchmark, Program, Row, quiet

BASELINE, BY_HAND, MANY = "two passes", "by hand", 8
_IMAGES = 2000


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed: task-loss matching of Tiny-10, and measures from moments.

    Args:
      rounds: How often each program is timed, in turns.
      seconds: How long each training takes in a round, about.
      batch_size: Images per step.
      samples: Of the activations whose CKA and least squares are timed.
      features: Of each of these.
      seed: Of these.
    """

    rounds: int = 7
    seconds: float = 1.0
    batch_size: int = 100
    samples: int = 10_000
    features: int = 512
    seed: int = 0

    def __post_init__(self):
        check_counts(self, rounds=3, batch_size=1, features=1, seed=0)
        check_positive(self, "seconds")
        if self.batch_size > _IMAGES:
            raise ValueError(
                f"batch_size: expected at most {_IMAGES}, got {self.batch_size}"
            )
        if self.features >= self.samples:
            raise ValueError(
                f"features: expected fewer than samples={self.samples}, "
                f"got {self.features}"
            )


class Network(NamedTuple):
    """An architecture, the shape of an input, and direct children to stitch at."""

    module: nn.Module
    shape: tuple[int, int, int]
    layers: tuple[str, ...]


# An early, a middle and a late layer.
TINY10 = Network(Tiny10(10), (32, 32, 3), ("bn3", "bn5", "bn7"))


def measure_task_loss(config: Config, advance: Advance = quiet) -> dict[str, Any]:
    """Time the training of an affine map at some layers, by Adam on labels.

    All programs are compiled before they are timed.
    """
    layers = {
        path: time_layer(TINY10, path, config)
        for path in runner.tracked(TINY10.layers, advance)
    }
    return {"task_loss": results.TaskLoss(baseline=BASELINE, layers=layers)}


def time_layer(network: Network, path: str, config: Config) -> results.TaskLossLayer:
    """Time the training of an affine map at one layer."""
    front, programs = trainings(network, path)
    front_seconds = runner.timed(front)
    losses = [float(programs[n](2, _IMAGES)[1]) for n in programs if n != "many"]
    size = config.batch_size
    steps = {n: _steps(run, size, config.seconds) for n, run in programs.items()}
    # The fixed cost of a call is shared by as many steps.
    steps["train"] = steps[BY_HAND]
    turns = {n: functools.partial(run, steps[n], size) for n, run in programs.items()}
    times = runner.interleaved(turns, config.rounds)
    step = {name: each / steps[name] for name, each in times.items()}
    images = {name: size * (MANY if name == "many" else 1) for name in step}
    return results.TaskLossLayer(
        front_seconds=front_seconds,
        images=_IMAGES,
        samples_per_second={n: images[n] / runner.median(t) for n, t in step.items()},
        speedup=runner.ratio(step[BASELINE], step["train"]),
        by_hand=runner.ratio(step["train"], step[BY_HAND]),
        many=runner.ratio(step["many"], MANY * step["train"]),
        difference=max(losses) / min(losses) - 1,
    )


def _steps(run: Callable[[int, int], Any], batch_size: int, seconds: float) -> int:
    """How many steps take so long, about."""
    steps = 4
    while True:
        run(steps, batch_size)  # may compile
        taken = runner.timed(functools.partial(run, steps, batch_size))
        if taken > seconds / 8 or steps >= 4096:
            return max(4, round(steps * seconds / taken))
        steps *= 4


def trainings(
    network: Network, path: str
) -> tuple[Program, dict[str, Callable[[int, int], Any]]]:
    """Return what computes network `a`'s activations, and trainings by name.

    `train` is `stitching.train`, `many` is `stitching.train_many` of eight maps from
    different starts, `by hand` and `two passes` are Python loops over a jitted step of
    the losses below. `training(steps, batch_size)` returns the losses of the steps.
    """
    optimizer = optax.adam(1e-3)
    keys = jax.random.split(jax.random.key(0), 4)
    inputs = jax.random.normal(keys[0], (_IMAGES, *network.shape))
    labels = jnp.arange(_IMAGES) % 10
    a, b = (jax.jit(network.module.init)(key, inputs[:1]) for key in keys[1:3])
    cut = stitching.cut(network.module, path, inputs[:1], train=False)
    example: Any = cut.activation
    stitched = stitching.stitch(cut, stitching.layers.Affine(example.shape[-1]), cut)
    starts = jax.random.split(keys[3], MANY)
    starts = [stitched.init(key, a, inputs[:1]) for key in starts]
    front = functools.partial(stitching.in_batches, cut.front, a, inputs)
    activation, targets = front(), stitching.targets.hard(labels)

    def ours(function, initial):
        return lambda steps, size: function(
            *(stitched, a, b, inputs, targets, optimizer),
            **{"activation": activation, "initial": initial, "key": keys[0]},
            **{"steps": steps, "batch_size": size},
        )

    def loop(loss, *data):
        step, params = jitted_step(loss, optimizer), starts[0]["params"]

        def training(steps, size):
            state = jax.tree.map(jnp.array, (params, optimizer.init(params)))
            losses = []
            for rows in _minibatches(steps, size):
                state, value, _ = step(state, data, rows)
                losses.append(value)
            return jnp.stack(losses)

        return training

    one = ours(stitching.train, starts[0])
    many = ours(stitching.train_many, stitching.each(starts))
    return front, {
        "train": lambda *asked: one(*asked).losses,
        "many": lambda *asked: [found.losses for found in many(*asked)],
        BY_HAND: loop(on_activations(cut), b, activation, labels),
        BASELINE: loop(two_passes(cut), a, b, inputs, labels),
    }


def _minibatches(steps: int, batch_size: int) -> Iterator[np.ndarray]:
    """Rows of the minibatches, in a random order in each epoch."""
    rng, each = np.random.default_rng(0), _IMAGES // batch_size
    for first in range(0, steps, each):
        order = rng.permutation(_IMAGES)[: each * batch_size].reshape(each, batch_size)
        yield from order[: steps - first]


def jitted_step(loss: Any, optimizer: optax.GradientTransformation) -> Any:
    """Return `step(state, data, rows)` of `loss(params, *data, rows)`, with aux."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, data, rows):
        params, opt_state = state
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, aux), grads = gradient(params, *data, rows)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value, aux

    return step


def on_activations(cut: Any) -> Any:
    """Return the loss of a map of activations that are computed before, on labels."""

    def loss(params, b, activation, labels, rows):
        return _loss(cut, params, b, activation[rows], labels[rows]), ()

    return loss


def two_passes(cut: Any) -> Any:
    """Return the loss of a map by two full forward passes, on labels.

    As with hooks: network `a` runs to its end and `b` from its input. Their results are
    returned besides, so that no compiler can leave them out.
    """

    def loss(params, a, b, inputs, labels, rows):
        activation = cut.front(a, inputs[rows])
        besides = cut.back(a, activation), cut.front(b, inputs[rows])
        return _loss(cut, params, b, activation, labels[rows]), besides

    return loss


def _loss(cut: Any, params: Any, b: Any, activation: Any, labels: Any) -> jax.Array:
    logits = cut.back(b, activation @ params["kernel"] + params["bias"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def measure_moments(config: Config, advance: Advance = quiet) -> dict[str, Any]:
    """Time linear CKA and least squares with an intercept, each from moments and not.

    Ours see the activations once, for their moments. The baselines are the definitions:
    CKA from the two centred Gram matrices of all samples, and least squares by the
    pseudo-inverse of the centred activation. All are compiled.
    """
    keys = jax.random.split(jax.random.key(config.seed), 3)
    shape = config.samples, config.features
    x, noise = (jax.random.normal(key, shape) for key in keys[:2])
    mixing = jax.random.normal(keys[2], (config.features,) * 2)
    y = jnp.tanh(x @ mixing / config.features**0.5) + 0.1 * noise + 1
    programs = {
        f"{name}, {way}": functools.partial(jax.jit(function), x, y)
        for name, (_, *functions) in MEASURES.items()
        for way, function in zip(("moments", "baseline"), functions, strict=True)
    }
    times = runner.interleaved(programs, config.rounds, advance)
    measures = {}
    for name, (baseline, *_) in MEASURES.items():
        ours, other = f"{name}, moments", f"{name}, baseline"
        differences = jax.tree.map(_difference, programs[ours](), programs[other]())
        measures[name] = results.Measure(
            baseline=baseline,
            seconds={
                "moments": runner.median(times[ours]),
                "baseline": runner.median(times[other]),
            },
            speedup=runner.ratio(times[other], times[ours]),
            difference=max(jax.tree.leaves(differences)),
        )
    sizes = {"samples": config.samples, "features": config.features}
    return {"moments": results.Moments(**sizes, measures=measures)}


def _difference(x: jax.Array, y: jax.Array) -> float:
    return float(jnp.abs(x - y).max() / jnp.abs(y).max())


def _cka(x, y):
    return stitching.similarity.cka(stitching.moments(x, y))


def _gram_cka(x, y):
    x, y = (z - z.mean(axis=0) for z in (x @ x.T, y @ y.T))
    x, y = (z - z.mean(axis=1, keepdims=True) for z in (x, y))
    return (x * y).sum() / (jnp.linalg.norm(x) * jnp.linalg.norm(y))


def _least_squares(x, y):
    fit = stitching.least_squares(stitching.moments(x, y))
    return fit.weight, fit.bias


def _pseudo_inverse(x, y):
    weight = jnp.linalg.pinv(x - x.mean(axis=0)) @ (y - y.mean(axis=0))
    return weight, y.mean(axis=0) - x.mean(axis=0) @ weight


# Name -> the baseline's name, ours, and the baseline.
MEASURES: dict[str, tuple[str, Callable[..., Any], Callable[..., Any]]] = {
    "CKA": ("Gram matrices", _cka, _gram_cka),
    "least squares": ("pseudo-inverse", _least_squares, _pseudo_inverse),
}


def rows(result: results.StitchingResult) -> list[Row]:
    """Return the rows of the table of a result."""
    found: list[Row] = []
    for path, layer in result.task_loss.layers.items():
        ratios = {
            "train": (layer.speedup, f"{BASELINE} / train"),
            "many": (layer.many, f"many / {MANY} train"),
            BY_HAND: (layer.by_hand, "train / by hand"),
        }
        for name, speed in layer.samples_per_second.items():
            one, besides = ratios.get(name, (None, ""))
            case, time = f"{path}, per image", f"{1e6 / speed:,.1f} µs"
            found.append((case, name, time, runner.text(one) if one else "", besides))
    for name, one in result.moments.measures.items():
        besides = f"faster, values ± {one.difference:.0e}"
        seconds = {way: f"{time:.3g} s" for way, time in one.seconds.items()}
        found.append(
            (name, "moments", seconds["moments"], runner.text(one.speedup), besides)
        )
        found.append((name, one.baseline, seconds["baseline"], "", ""))
    return found


BENCHMARK = Benchmark(
    "speed stitching",
    results.StitchingResult,
    {"task_loss": measure_task_loss, "moments": measure_moments},
    rows,
    "Layers: an affine map is trained through the frozen back of Tiny-10, with network "
    "a's activations computed once before, by the library (train; many: eight maps in "
    "one call) and by a loop by hand; two passes runs both networks whole each step. "
    "Measures: from moments, seen in one pass, against centred Gram matrices and the "
    "pseudo-inverse.",
)
