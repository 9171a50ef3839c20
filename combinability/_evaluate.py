"""Evaluate a metric on many combinations of networks."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from combinability import _checkpoint
from combinability._checks import (
    Key,
    check_arguments,
    check_count,
    check_function,
    check_key,
    path_name,
)
from combinability._combine import check_networks, combine, combine_many
from combinability._jaxpr import (
    captured,
    convolves_channels_last,
    intermediate_bytes,
)
from combinability._jaxpr import evaluate as run_program
from combinability.coefficients import Coefficients

# Programs that are kept for equal calls.
_PROGRAMS = 128
# Segments of an evaluation with a progress function or a checkpoint, at most.
_SEGMENTS = 64
# On accelerators: the share of a device's memory for the intermediate values of the
# samples that are evaluated side by side, and the most samples.
_MEMORY_SHARE, _MOST_SAMPLES = 0.25, 1024


def evaluate(
    metric: Callable[..., PyTree],
    a: PyTree,
    b: PyTree,
    distribution: Coefficients,
    *,
    key: Key,
    samples: int,
    args: Sequence[PyTree] = (),
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PyTree:
    r"""Evaluate a metric on random combinations of two networks.

    .. math::

        \Theta_i = (1 - T_i) \odot \Theta_A + T_i \odot \Theta_B,
        \qquad T_i \sim \text{distribution}

    as in Csiszárik et al., 2023 (arXiv 2308.11511).

    Sample i depends on the key and on i only: not on `samples`, `batch_size`, devices,
    or an interruption. Its coefficients are the same in every bit, the metric's values
    up to rounding, and in every bit where `batch_size` and `devices` are the same.

    All samples are one program, `jax.jit` of `jax.lax.map`. As with `jax.jit`, a call
    with the same metric, an equal distribution and the same shapes and dtypes does not
    compile again, and what the metric closes over is read when it is first traced. Give
    what changes as `args`. The last 128 programs are kept.

    Args:
        metric: a pure function `metric(variables, *args)` that returns a tree of
            arrays of numbers.
        a, b: variables of the same structure, shapes and dtypes, aligned.
        distribution: what the coefficients T are drawn from: `uniform()`, another one
            of `combinability.coefficients`, or your own `Coefficients`.
        key: a PRNG key.
        samples: number of combinations, at least 1.
        args: a tuple of further arguments of the metric (data, say): trees of arrays.
        batch_size: combinations that are vmapped together on each device. On a CPU by
            default 1, without vmap: larger batches save little, and convolutions become
            several times slower. There, if the metric contains a convolution that is
            not channels-last (NHWC inputs, HWIO kernels), as the gradients of all
            convolutions are, a Python loop calls a compiled sample: in a compiled loop
            XLA takes 7 to 50 times longer for them. On accelerators by default as many
            as fit: their intermediate values, coefficients and combinations take at
            most a quarter of the device's memory; no more than 1024.
        devices: devices of this process that share the samples; by default all.
        progress: called as `progress(done, samples)`, at most 64 times.
        checkpoint: a file for finished samples, replaced as a whole at most 64 times.
            If it exists, evaluation continues from it.

    Returns:
        A tree like the metric's value, of NumPy arrays with a leading axis `samples`.
        With several processes (`jax.distributed`) each evaluates a part of the samples,
        and all return all of them. Each needs the same arguments and writes a
        checkpoint of its own, with its number at the end of the name.

    Raises:
        TypeError: if metric or distribution cannot be hashed, the metric returns no
            arrays of numbers, or an argument is traced (inside `jit` or `vmap`).
        ValueError: if a and b do not match or are not finite, the distribution is one
            for `evaluate_many`, or the checkpoint is damaged or of another run.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> a, b = {"w": jnp.zeros(1000)}, {"w": jnp.ones(1000)}
        >>> means = combinability.evaluate(
        ...     lambda variables: variables["w"].mean(), a, b,
        ...     combinability.uniform(), key=jax.random.key(0), samples=10,
        ... )
        >>> means.shape, bool(abs(means.mean() - 0.5) < 0.02)
        ((10,), True)
    """
    return _evaluate(
        metric, {"a": a, "b": b}, distribution,
        key, samples, args, batch_size, devices, progress, checkpoint,
    )  # fmt: skip


def evaluate_many(
    metric: Callable[..., PyTree],
    models: Sequence[PyTree],
    distribution: Coefficients,
    *,
    key: Key,
    samples: int,
    args: Sequence[PyTree] = (),
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PyTree:
    """Evaluate a metric on random combinations of N networks; see `evaluate`.

    Args:
        models: N trees of variables of the same structure, aligned with one another.
        distribution: `simplex(N)`, or an object of your own whose samples are what
            `combine_many` takes.
        metric, key, samples, args, batch_size, devices, progress, checkpoint: as in
            `evaluate`.

    Raises:
        ValueError, TypeError: as `evaluate`, and if the distribution is for another
            number of networks.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> models = [jnp.full(500, value) for value in (0.0, 1.0, 5.0)]
        >>> means = combinability.evaluate_many(
        ...     jnp.mean, models, combinability.coefficients.simplex(3),
        ...     key=jax.random.key(0), samples=8,
        ... )
        >>> means.shape, bool(abs(means.mean() - 2) < 0.1)
        ((8,), True)
    """
    named = {f"models[{number}]": model for number, model in enumerate(models)}
    if not named:
        raise ValueError("models: expected at least one network, got none")
    return _evaluate(
        metric, named, distribution,
        key, samples, args, batch_size, devices, progress, checkpoint,
    )  # fmt: skip


def _evaluate(
    metric, named, distribution,
    key, samples, args, batch_size, devices, progress, checkpoint,
) -> PyTree:  # fmt: skip
    """Evaluate a metric on combinations of networks, by their arguments' names."""
    _check_arguments(metric, named, distribution, samples)
    args = check_arguments("args", args)
    _check_concrete({**named, "args": args, "key": key})
    _check_local(named)
    models = tuple(check_networks(named))
    key, devices = check_key(key), _check_devices(devices)
    # Several processes have equal parts of the samples, the last ones perhaps fewer.
    each = -(-samples // jax.process_count())
    first = min(samples, each * jax.process_index())
    part = range(first, min(samples, first + each))
    traced = _checked(metric).trace(models[0], *args)
    whole = progress is None and checkpoint is None
    devices, shape, batch_size = _layout(
        traced.jaxpr, models[0], len(part), batch_size, devices, whole
    )
    combined = _combine_pair if "a" in named else combine_many
    program, replicated = _program(
        traced.jaxpr, distribution, combined, batch_size, devices
    )
    constants = captured(traced.jaxpr)
    arguments = jax.device_put((key, models, args, constants), replicated)

    outputs, structure = jax.tree.flatten(traced.out_info)
    values = [np.zeros((0, *x.shape), x.dtype) for x in outputs]
    file, run, done = None, {}, 0
    if checkpoint is not None:
        file = Path(checkpoint)
        if jax.process_count() > 1:
            file = file.with_name(f"{file.name}.{jax.process_index()}")
        run = _checkpoint.describe(part, key, distribution, models, args, traced)
        if file.exists():
            values = _checkpoint.load(file, run, [x.dtype for x in outputs])
            done = len(values[0])
            if progress is not None:
                progress(done, len(part))
    while done < len(part):
        # What is evaluated beyond the last sample is dropped.
        indices = part.start + done + np.arange(math.prod(shape))
        rows = np.minimum(indices, samples - 1).astype(np.uint32).reshape(shape)
        found = jax.device_get([program(row, *arguments) for row in rows])
        columns = zip(values, *found, strict=True)
        values = [np.concatenate(column)[: len(part)] for column in columns]
        done = len(values[0])
        if file is not None:
            _checkpoint.save(file, run, values)
        if progress is not None:
            progress(done, len(part))
    return jax.tree.unflatten(structure, _gather(values, samples))


def _check_arguments(metric, named, distribution, samples) -> None:
    """Raise if what is to be evaluated, on what, or how often cannot be right."""
    check_function("metric", metric, "of variables")
    if not isinstance(distribution, Coefficients):
        raise TypeError(
            "distribution: expected an object with a method `sample`, as uniform() "
            f"returns, got {distribution!r}"
        )
    for name, value in (("metric", metric), ("distribution", distribution)):
        try:
            hash(value)
        except TypeError as error:
            raise TypeError(
                f"{name}: expected something hashable, by which equal calls are "
                f"compiled once, got {value!r}; write a function, or a dataclass with "
                "frozen=True or eq=False"
            ) from error
    check_count("samples", samples, 1)
    points = getattr(distribution, "points", None)
    if points not in (None, samples):
        raise ValueError(
            f"samples: expected {points}, the number of points of the line, got "
            f"{samples}"
        )
    wanted = None if "a" in named else len(named)
    found = getattr(distribution, "models", wanted)
    if found != wanted:
        many, two = "{} networks, by evaluate_many", "two networks, by evaluate"
        kinds = [two if n is None else many.format(n) for n in (wanted, found)]
        raise ValueError(
            f"distribution: expected one for {kinds[0]}, got {distribution}, which is "
            f"for {kinds[1]}"
        )


def _layout(
    metric, variables: PyTree, samples: int, batch_size, devices: tuple, whole: bool
) -> tuple[tuple, tuple[int, int], int]:
    """How samples are spread: the devices, the shape (calls, samples), and the batch.

    Each of the calls evaluates that many samples; together they are a segment, and all
    samples if `whole`.
    """
    on_cpu = devices[0].platform == "cpu"
    if batch_size is None:
        batch_size = 1 if on_cpu else _fitting(metric, variables, devices[0])
    batch_size = check_count("batch_size", batch_size, 1)
    count = samples if whole else max(batch_size, -(-samples // _SEGMENTS))
    devices = devices[: max(1, count)]
    each = -(-count // len(devices))
    if on_cpu and batch_size == 1 and not convolves_channels_last(metric):
        return devices, (each, len(devices)), 1
    # At least two steps, and two samples at once if several were asked for: XLA
    # compiles a loop of one step, or one sample, into another program, whose rounding
    # may differ.
    steps = max(2, -(-each // batch_size))
    batch_size = max(min(2, batch_size), -(-each // steps))
    return devices, (1, len(devices) * steps * batch_size), batch_size


@functools.lru_cache(_PROGRAMS)
def _checked(metric):
    """The jitted metric, which raises where its value is no tree of arrays."""

    # A jitted function would keep what it captures inside of its program.
    jitted = isinstance(metric, jax.stages.Wrapped)
    function = getattr(metric, "__wrapped__", metric) if jitted else metric

    def checked(variables, *args):
        value = function(variables, *args)
        _check_value(value)
        return value

    return jax.jit(checked)


@functools.lru_cache(_PROGRAMS)
def _program(metric, distribution, combined, batch_size, devices):
    """The compiled program that evaluates samples, and how its arguments are placed.

    The metric is the traced one, with the arrays that it captured as arguments. The
    devices share the samples; each vmaps `batch_size` of them together.
    """
    mesh = Mesh(np.array(devices), ("samples",))

    def part(indices, key, models, args, constants):
        def one_sample(index):
            coefficients = distribution.sample(index, models[0], key=key)
            leaves = jax.tree.leaves((combined(models, coefficients), args))
            return run_program(metric, constants, *leaves)

        if len(indices) == 1:
            return [leaf[None] for leaf in one_sample(indices[0])]
        # A batch of 1 would be vmapped too.
        size = batch_size if batch_size > 1 else None
        return jax.lax.map(one_sample, indices, batch_size=size)

    spread, same = PartitionSpec("samples"), PartitionSpec()
    mapped = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(spread, same, same, same, same),
        out_specs=spread,
        check_vma=False,
    )
    return jax.jit(mapped), NamedSharding(mesh, same)


def _combine_pair(models: tuple, coefficients: PyTree) -> PyTree:
    return combine(models[0], models[1], coefficients)


def _fitting(metric, variables: PyTree, device: Any) -> int:
    """The samples that fit into an accelerator's memory together."""
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    # Random bits, coefficients and combination, and what the metric computes.
    needed = 3 * parameters + intermediate_bytes(metric)
    memory = (device.memory_stats() or {}).get("bytes_limit", 2**33)
    return max(1, min(_MOST_SAMPLES, int(_MEMORY_SHARE * memory) // needed))


def _check_value(value: PyTree) -> None:
    found = jax.tree_util.tree_flatten_with_path(value)[0]
    if not found:
        raise TypeError(
            f"metric: expected arrays for each combination, got {value!r}; return what "
            "is to be kept"
        )
    for path, leaf in found:
        try:
            dtype = jnp.result_type(leaf)
        except TypeError:
            dtype = np.dtype(object)
        if not (jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)):
            where = f" at {path_name(path)!r}" if path else ""
            raise TypeError(
                f"metric: expected arrays of numbers, got {type(leaf).__name__}{where}"
            )


def _check_devices(devices: Sequence[Any] | None) -> tuple[Any, ...]:
    found = tuple(jax.local_devices() if devices is None else devices)
    others = [d for d in found if d not in jax.local_devices(backend=d.platform)]
    if not found or others or len(set(found)) < len(found):
        raise ValueError(
            "devices: expected different devices of this process, as "
            f"jax.local_devices() names them, got {devices!r}"
        )
    return found


def _check_concrete(named: dict[str, PyTree]) -> None:
    for name, tree in named.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if isinstance(leaf, Tracer):
                where = f" at {path_name(path)!r}" if path else ""
                raise TypeError(
                    f"{name}: expected concrete arrays, got a traced one{where}; "
                    "samples are evaluated in a loop on the host, outside of jit and "
                    "vmap"
                )


def _check_local(named: dict[str, PyTree]) -> None:
    for name, model in named.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]:
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
                raise ValueError(
                    f"{name}: expected arrays of this process, got one that spans "
                    f"several processes at {path_name(path)!r}; gather the network by "
                    "multihost_utils.process_allgather(…, tiled=True)"
                )


def _gather(values: list[np.ndarray], samples: int) -> list[np.ndarray]:
    """The samples of all processes, from those of this one."""
    if jax.process_count() == 1:
        return values
    each = -(-samples // jax.process_count())
    missing = [(0, each - len(values[0]))]
    padded = [np.pad(leaf, missing + [(0, 0)] * (leaf.ndim - 1)) for leaf in values]
    found = multihost_utils.process_allgather(padded)
    return [np.concatenate(np.asarray(leaf))[:samples] for leaf in found]
