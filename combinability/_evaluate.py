"""Evaluation of a metric on many combinations of networks: the engine."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from combinability._advance import advance
from combinability._arguments import check_finite
from combinability._combine import check_like, combine, combine_many
from combinability._distribution import Coefficients
from combinability._keys import Key
from combinability._options import Options, checked
from combinability._processes import check_local, gather, own_file, own_part
from combinability._program import make_task
from combinability._samples_file import SamplesFile, describe


def evaluate(
    metric: Callable[[PyTree], PyTree],
    a: PyTree,
    b: PyTree,
    distribution: Coefficients,
    *,
    key: Key,
    samples: int,
    batch: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PyTree:
    r"""Evaluates a metric on combinations with random coefficients.

    .. math::

        \Theta_i = \Lambda_i \odot \Theta_A + (1 - \Lambda_i) \odot \Theta_B,
        \qquad \Lambda_i \sim \text{distribution(key, i)}

    Sample i depends on the key and i alone. Its coefficients are the same bit by bit
    for every batch, number of devices, and before and after an interruption; the
    metric's values are the same up to rounding, as compilers sum in other orders for
    other batches (give `batch`, or resume from a checkpoint, which keeps the batch, for
    the same bits). Coefficients are drawn in the compiled program where they are used:
    memory grows with batch, not with samples, but for the values themselves.

    Args:
        metric: a pure function of a network's variables that gives a tree of arrays.
            It is traced once a call. Arrays that it closes over (data, say) are given
            to the compiled program as arguments; those that a jitted function inside of
            it closes over are built into the program, which is slow to compile where
            they are large. What it closes over may change between calls, so each call
            compiles; equal programs are found again where JAX has a folder for them
            (`jax_compilation_cache_dir`).
        a: variables of a network.
        b: variables of the same structure, aligned with a.
        distribution: what coefficients are drawn from: `uniform()` or another, or a
            `Coefficients` object of your own.
        key: a PRNG key.
        samples: number of combinations, at least 1.
        batch: combinations side by side on each device, at least 1. By default the
            fastest of 1, 4, 16, … as timed here; on a CPU a metric that convolves is
            evaluated one by one.
        devices: devices of this process to share the samples; by default all.
        progress: called as `progress(done, samples)` about once a second.
        checkpoint: a file for finished samples. If it exists, evaluation goes on
            from it. It is replaced as a whole, at most a tenth of the time.

    Returns:
        A tree like the metric's value, of NumPy arrays with a leading axis `samples`.
        Among several processes (`jax.distributed`) each evaluates one part of the
        samples on its own devices and all return all of them; each needs the same
        arguments and writes a checkpoint of its own, named by its number.

    Raises:
        TypeError: if key is not a PRNG key or the metric returns no arrays.
        ValueError: if a and b do not match, are not finite or span several processes,
            samples, batch or devices are out of range, the distribution is one for
            `evaluate_many`, or the checkpoint is damaged or belongs to another run.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> a, b = {"w": jnp.zeros(1000)}, {"w": jnp.ones(1000)}
        >>> means = combinability.evaluate(
        ...     lambda variables: variables["w"].mean(), a, b,
        ...     combinability.uniform(), key=jax.random.key(0), samples=10,
        ... )
        >>> means.shape, bool(abs(means.mean() - 0.5) < 0.02)
        ((10,), True)

    References:
        Csiszárik et al., 2023 (arXiv 2308.11511); the engine is ours.
    """
    check_like(b, a, "b", "a")
    if getattr(distribution, "models", None) is not None:
        raise ValueError(
            f"distribution: {distribution} combines several networks; give them to "
            "evaluate_many"
        )

    def combined(models, coefficients):
        return combine(models[0], models[1], coefficients)

    options = Options(key, samples, batch, devices, progress, checkpoint)
    return _evaluate(metric, {"a": a, "b": b}, combined, distribution, options)


def evaluate_many(
    metric: Callable[[PyTree], PyTree],
    models: Sequence[PyTree],
    distribution: Coefficients,
    *,
    key: Key,
    samples: int,
    batch: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PyTree:
    """Evaluates a metric on random combinations of N networks.

    Args:
        metric: as in `evaluate`.
        models: N trees of variables of the same structure, aligned with one another.
        distribution: `simplex(N)`, or an object of your own whose samples are what
            `combine_many` takes.
        key: a PRNG key.
        samples: number of combinations, at least 1.
        batch: as in `evaluate`.
        devices: as in `evaluate`.
        progress: as in `evaluate`.
        checkpoint: as in `evaluate`.

    Returns:
        As `evaluate`.

    Raises:
        TypeError: as `evaluate`.
        ValueError: as `evaluate`, and if the distribution is for another number of
            networks.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> models = [jnp.full(500, value) for value in (0.0, 1.0, 5.0)]
        >>> means = combinability.evaluate_many(
        ...     jnp.mean, models, combinability.simplex(3),
        ...     key=jax.random.key(0), samples=8,
        ... )
        >>> means.shape, bool(abs(means.mean() - 2) < 0.1)
        ((8,), True)
    """
    models = list(models)
    if not models:
        raise ValueError("models: expected at least one network, got none")
    for number, model in enumerate(models):
        check_like(model, models[0], f"models[{number}]", "models[0]")
    expected = getattr(distribution, "models", len(models))
    if expected != len(models):
        kind = "a pair, by evaluate" if expected is None else f"{expected} networks"
        raise ValueError(
            f"distribution: {distribution} is for {kind}, got {len(models)} models"
        )
    named = {f"models[{number}]": model for number, model in enumerate(models)}
    options = Options(key, samples, batch, devices, progress, checkpoint)
    return _evaluate(metric, named, combine_many, distribution, options)


def _evaluate(
    metric: Callable[[PyTree], PyTree],
    models: Mapping[str, PyTree],
    combined: Callable[[Sequence[PyTree], PyTree], PyTree],
    distribution: Coefficients,
    options: Options,
) -> PyTree:
    """The metric on combinations of named models."""
    options = checked(options, distribution)
    for name, model in models.items():
        check_local(name, model)
        check_finite(name, model)
    part = own_part(options.samples)
    devices = tuple(options.devices or ())[: max(1, len(part))]
    task = make_task(
        metric, tuple(models.values()), combined, distribution, options.key, devices
    )
    file = None
    if options.checkpoint is not None:
        about = describe(task, distribution, samples=part)
        file = SamplesFile(own_file(options.checkpoint), about, task.metric)
    values = advance(task, part, options.batch, options.progress, file)
    return jax.tree.unflatten(task.metric.structure, gather(values, options.samples))
