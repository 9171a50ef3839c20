"""Task-loss matching against loops by hand, and measures from moments."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import stitching
from benchmarks.configs.speed import IMAGES
from benchmarks.configs.speed import Stitching as Config
from benchmarks.models import Tiny10
from benchmarks.speed import runner
from benchmarks.speed.runner import Benchmark, Program, Timing

MANY = 8


def time_layer(
    module: nn.Module, shape: tuple[int, ...], path: str, config: Config
) -> list[Timing]:
    """Time the training of an affine map at one layer, an image of a step."""
    front, programs = trainings(module, shape, path)
    before, size = runner.timed(front), config.batch_size
    losses = [float(programs[n](2, IMAGES)[1]) for n in programs if n != "many"]
    steps = {n: _steps(run, size, config.seconds) for n, run in programs.items()}
    # The fixed cost of a call is shared by as many steps.
    steps["train"] = steps["by hand"]
    turns = {n: functools.partial(run, steps[n], size) for n, run in programs.items()}
    times = runner.interleaved(turns, config.rounds)
    images = {n: size * steps[n] * (MANY if n == "many" else 1) for n in times}
    per_image = {name: seconds / images[name] for name, seconds in times.items()}
    per_image["activations, once"] = np.array([before / IMAGES])
    against = {"train": ["two passes", "by hand"], "many": ["train"]}
    notes = {"train": {"difference": max(losses) / min(losses) - 1}}
    return runner.timings(f"{path}, per image", per_image, against, notes)


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
    module: nn.Module, shape: tuple[int, ...], path: str
) -> tuple[Program, dict[str, Callable[[int, int], Any]]]:
    """Return what computes network `a`'s activations, and trainings by name.

    `train` is `stitching.train`, `many` is `stitching.train_many` of eight maps from
    different starts, `by hand` and `two passes` are Python loops over a jitted step of
    the losses below. `training(steps, batch_size)` returns the losses of the steps.
    """
    optimizer = optax.adam(1e-3)
    keys = jax.random.split(jax.random.key(0), 4)
    inputs = jax.random.normal(keys[0], (IMAGES, *shape))
    labels = jnp.arange(IMAGES) % 10
    a, b = (jax.jit(module.init)(key, inputs[:1]) for key in keys[1:3])
    cut = stitching.cut(module, path, inputs[:1], train=False)
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

    def loop(data, whole):
        step = jitted_step(loss_on_labels(cut, whole), optimizer)

        def training(steps, size):
            params, losses = starts[0]["params"], []
            state = jax.tree.map(jnp.array, (params, optimizer.init(params)))
            for rows in _minibatches(steps, size):
                state, value, _ = step(state, (a, b, data, labels), rows)
                losses.append(value)
            return jnp.stack(losses)

        return training

    one = ours(stitching.train, starts[0])
    many = ours(stitching.train_many, stitching.each(starts))
    return front, {
        "train": lambda *asked: one(*asked).losses,
        "many": lambda *asked: [found.losses for found in many(*asked)],
        "by hand": loop(activation, whole=False),
        "two passes": loop(inputs, whole=True),
    }


def _minibatches(steps: int, batch_size: int) -> Iterator[np.ndarray]:
    """Rows of the minibatches, in a random order in each epoch."""
    rng, each = np.random.default_rng(0), IMAGES // batch_size
    for first in range(0, steps, each):
        order = rng.permutation(IMAGES)[: each * batch_size].reshape(each, batch_size)
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


def loss_on_labels(cut: Any, whole: bool) -> Any:
    """Return the loss of a map of activations, or of inputs by two forward passes.

    With hooks network `a` runs to its end and `b` from its input, each as a `whole`.
    Their results are returned besides, so that no compiler can leave them out.
    """

    def loss(params, a, b, data, labels, rows):
        activation, besides = data[rows], ()
        if whole:
            activation = cut.front(a, data[rows])
            besides = cut.back(a, activation), cut.front(b, data[rows])
        logits = cut.back(b, activation @ params["kernel"] + params["bias"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows])
        return losses.mean(), besides

    return loss


def time_measure(name: str, config: Config) -> list[Timing]:
    """Time linear CKA or least squares with an intercept, from moments and not.

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
        way: functools.partial(jax.jit(function), x, y)
        for way, function in MEASURES[name].items()
    }
    times = runner.interleaved(programs, config.rounds)
    values = [jax.tree.leaves(program()) for program in programs.values()]
    pairs = zip(*values, strict=True)
    apart = [float(jnp.abs(u - v).max() / jnp.abs(v).max()) for u, v in pairs]
    ours, other = programs
    notes = {ours: {"difference": max(apart)}}
    return runner.timings(name, times, {ours: [other]}, notes)


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


# Ours, and the baseline, by name.
MEASURES: dict[str, dict[str, Callable[..., Any]]] = {
    "CKA": {"moments": _cka, "Gram matrices": _gram_cka},
    "least squares": {"moments": _least_squares, "pseudo-inverse": _pseudo_inverse},
}


def cases(config: Config) -> dict[str, Any]:
    """Return what is timed, by name."""
    found: dict[str, Any] = {}
    for path in ("bn3", "bn5", "bn7"):  # an early, a middle and a late layer
        tiny10 = (Tiny10(10), (32, 32, 3), path)
        found[path] = functools.partial(time_layer, *tiny10, config)
    for name in MEASURES:
        found[name.replace(" ", "_")] = functools.partial(time_measure, name, config)
    return found


BENCHMARK = Benchmark(
    "speed stitching",
    cases,
    "Layers: an affine map is trained through the frozen back of Tiny-10, with network "
    "a's activations computed once before, by the library (train; many: eight maps in "
    "one call) and by a loop by hand; two passes runs both networks whole each step. "
    "Measures: from moments, seen in one pass, against centred Gram matrices and the "
    "pseudo-inverse.",
)
