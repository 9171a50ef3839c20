"""Training stitching layers on the task: one, or many at once."""

import functools
import itertools
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from stitching.direct._fit import Fit
from stitching.targets import Target
from stitching.training import _step
from stitching.training._batches import count, front_in_batches
from stitching.training._checks import (
    alike,
    check_devices,
    check_given,
    check_integer,
)
from stitching.training._step import Data, Program
from stitching.training._stitched import Stitched, check_stitched

Progress = Callable[[int, int], None]
# Activations may take this share of the memory.
_SHARE = 0.5


class Trained(NamedTuple):
    """A stitching layer that was trained on the task.

    Attributes:
        variables: of the layer; `stitched.apply(variables, ...)` runs the network.
        fit: its map as an array, to look at, measure or store; None for a layer that
            has no method `fit`.
        losses: of every step, on its minibatch and before its update.
        recorded: the maps after the steps in `record`, stacked in that order (apply one
            by `jax.tree.map(lambda leaf: leaf[i], recorded)`); None if none was.
    """

    variables: PyTree[Array]
    fit: Fit | None
    losses: Float[np.ndarray, " steps"]
    recorded: Fit | None


def train(
    stitched: Stitched,
    variables_1: PyTree,
    variables_2: PyTree,
    x: PyTree,
    target: Target,
    optimizer: optax.GradientTransformation,
    *,
    key: PRNGKeyArray,
    steps: int,
    batch_size: int,
    initial: PyTree | None = None,
    activation: PyTree | None = None,
    keep: bool | None = None,
    record: Sequence[int] = (),
    progress: Progress | None = None,
) -> Trained:
    r"""Train the layer of a stitched network on the task, and nothing else.

    .. math::

        \min_\theta \; \tfrac1n \sum_i \ell\bigl(\text{back}_2(f_\theta(
        \text{front}_1(x_i))),\, y_i\bigr)

    by minibatches. Both networks are frozen, their BatchNorm too, and so are the
    layer's collections other than "params". Network 1's activations are computed once
    and kept if they take at most half of the memory; a step then runs the layer and
    network 2's back, and differentiates with respect to the layer's parameters only.

    An epoch is a random order of the samples that follows from the key alone; samples
    that are left after its last whole minibatch are left out of it.

    Steps run in one compiled loop; on a CPU, if a step contains a convolution, in a
    Python loop over a compiled step. Nothing is timed: the same call gives the same
    bits. A second call with an equal `stitched` network, the same `optimizer` object
    and equal shapes compiles nothing: make cuts and optimizers once, outside of loops.

    Args:
        stitched: the network, from `stitch`.
        variables_1, variables_2: of network 1 and of network 2.
        x: the samples, both networks' input, along leading axes. NumPy arrays need not
            fit on the device where no step needs them: where network 1's activations
            are kept, or given, and cut 2 is a bottleneck.
        target: what the loss compares with, for the same samples: `targets.hard`,
            `targets.soft`, `targets.squared_error`, `targets.cka`, or weighted sums.
        optimizer: any of optax, those that take the loss or its function as extra
            arguments included. For `layers.Sparse`, chained with its proximal step.
        key: of the initial layer and of the order of the minibatches.
        steps: number of minibatches.
        batch_size: samples per minibatch; len(x) for full gradients.
        initial: variables of the layer to start from, for instance
            `layers.from_fit(layer, fit)`; by default `stitched.init` with the key.
        activation: network 1's activation for x, where it is known already, from
            `in_batches(cut.front, variables_1, x)`.
        keep: whether network 1's activations are kept, or computed anew for every
            minibatch; by default they are kept if they fit.
        record: after how many steps the map is recorded, for instance (0, 1, 10, 100).
        progress: called as `progress(done, steps)`, about a hundred times.

    Returns:
        The `Trained` layer.

    Raises:
        TypeError: if the network is not from `stitch`, the target is not a `Target`, or
            the optimizer is not one of optax.
        ValueError: if lengths or shapes do not fit each other, the layer has nothing to
            train, a label is not a class, or a number is out of range.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, optax, stitching
        >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> x = jax.random.normal(jax.random.key(0), (64, 4))
        >>> a, b = (model.init(jax.random.key(seed), x) for seed in (1, 2))
        >>> cut = stitching.cut(model, "layers_0", x)
        >>> stitched = stitching.stitch(cut, stitching.layers.Affine(8), cut)
        >>> logits = stitching.in_batches(model.apply, b, x)
        >>> found = stitching.train(
        ...     stitched, a, b, x, stitching.targets.soft(logits), optax.adam(0.03),
        ...     key=jax.random.key(3), steps=100, batch_size=32, record=(0, 10),
        ... )
        >>> found.fit.weight.shape, found.losses.shape, found.recorded.weight.shape
        ((8, 8), (100,), (2, 8, 8))

    References:
        Csiszárik et al., 2021, arXiv 2110.14633, section 4.
    """
    given = _Given(variables_1, variables_2, x, target, key, initial, activation, None)
    program, options = Program(stitched, optimizer), (steps, batch_size, record, keep)
    return _train(program, [given], *options, progress)[0]


class Each(NamedTuple):
    """What differs between stitches; made by `each`."""

    values: tuple[Any, ...]


def each(values: Iterable[Any]) -> Any:
    """Give each stitch of `train_many` a value of its own.

    Args:
        values: in the order of the stitches: a list, or an array along its first axis.

    Returns:
        What `train_many` takes in the place of a value that all share.

    Raises:
        TypeError: for a tree, such as a dictionary of stacked arrays, or one number.

    Example:
        >>> import jax, stitching
        >>> len(stitching.each(jax.random.split(jax.random.key(0), 8)).values)
        8
    """
    tree = isinstance(values, Mapping) or hasattr(values, "_fields")
    if tree or not np.iterable(values):
        raise TypeError(
            "values: expected a list of one value per stitch, or an array, got "
            f"{type(values).__name__}; a tree of stacked arrays is given as "
            "[jax.tree.map(lambda leaf: leaf[i], tree) for i in range(number)]"
        )
    return Each(tuple(values))


def train_many(
    stitched: Stitched,
    variables_1: PyTree,
    variables_2: PyTree,
    x: PyTree,
    target: Target,
    optimizer: optax.GradientTransformation | Callable[[Any], Any],
    *,
    key: PRNGKeyArray,
    steps: int,
    batch_size: int,
    initial: PyTree | None = None,
    activation: PyTree | None = None,
    hyperparameters: PyTree | None = None,
    keep: bool | None = None,
    record: Sequence[int] = (),
    devices: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> list[Trained]:
    """Train many stitches of one kind, side by side or in sequence.

    Each is trained as `train` would, to rounding. What differs is given as
    `each([...])`; everything else is shared, and what follows from it is computed once.
    Stitches that share their key see the same minibatches. Layers of different classes
    or ranks are different stitched networks: train them by themselves, with
    `activation`.

    Stitches run side by side (`vmap`) if their trees have the same shapes and network
    1's activations of all of them are kept; in sequence otherwise, and on a CPU if a
    step contains a convolution.

    Args:
        stitched, steps, batch_size, keep, record: as in `train`, for every stitch.
        variables_1, variables_2, x, target, key, initial, activation: as in `train`, or
            `each` of them.
        optimizer: as in `train`; with hyper-parameters, a function from those of one
            stitch to an optimizer.
        hyperparameters: arguments of the optimizer, such as `each(jnp.array([0.0,
            0.1]))` of a learning rate or an L1 penalty; traced.
        devices: devices of this process over which the stitches are spread, equally
            many on each, side by side; by default all are on the default device.
            Several processes (`jax.distributed`) each train stitches of their own.
        progress: called as `progress(done, total)`, in steps of all stitches together.

    Returns:
        One `Trained` layer per stitch.

    Raises:
        TypeError, ValueError: as `train`; and if nothing is `each`, numbers of values
            or of samples differ, or stitches cannot be spread over the devices.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, optax, stitching
        >>> from stitching import layers, targets
        >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> x = jax.random.normal(jax.random.key(0), (64, 4))
        >>> labels = jnp.arange(64) % 3
        >>> a, b = (model.init(jax.random.key(seed), x) for seed in (1, 2))
        >>> cut = stitching.cut(model, "layers_0", x)
        >>> stitched = stitching.stitch(cut, layers.Affine(8), cut)
        >>> def lasso(penalty):
        ...     return optax.chain(optax.sgd(0.1), layers.proximal_l1(penalty, 0.1))
        >>> weak, strong = stitching.train_many(
        ...     stitched, a, b, x, targets.hard(labels), lasso,
        ...     hyperparameters=stitching.each(jnp.array([0.0, 0.2])),
        ...     key=jax.random.key(3), steps=50, batch_size=64,
        ... )
        >>> bool((strong.fit.weight == 0).sum() > (weak.fit.weight == 0).sum())
        True
    """
    networks = variables_1, variables_2, x, target, key
    givens = _separate(_Given(*networks, initial, activation, hyperparameters))
    program, options = Program(stitched, optimizer), (steps, batch_size, record, keep)
    return _train(program, givens, *options, progress, devices)


class _Given(NamedTuple):
    """What one stitch is given; what is the same object for several is shared."""

    variables_1: PyTree
    variables_2: PyTree
    x: PyTree
    target: Any
    key: PRNGKeyArray
    initial: PyTree
    activation: PyTree
    hyperparameters: PyTree

    @property
    def fixed(self) -> dict[str, Any]:
        """The layer's collections that do not train."""
        return {k: tree for k, tree in self.initial.items() if k != "params"}


def _separate(shared: _Given) -> list[_Given]:
    """One for each stitch; what they share is the same object in all."""
    fields = shared._asdict()
    lengths = {k: len(v.values) for k, v in fields.items() if isinstance(v, Each)}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            "train_many: expected something that differs, as `each` of at least 1 "
            "value, and as many values in every `each`, got "
            f"{lengths or 'nothing that differs'}"
        )
    number = next(iter(lengths.values()))

    def values(name, value):
        if isinstance(value, Each):
            return value.values
        if name != "x":  # which may be too large for the device
            value = jax.tree.map(jnp.asarray, value)
        return (value,) * number

    columns = itertools.starmap(values, fields.items())
    return [_Given(*row) for row in zip(*columns, strict=True)]


def _train(
    program: Program,
    givens: Sequence[_Given],
    steps: int,
    batch_size: int,
    record: Sequence[int],
    keep: bool | None,
    progress: Progress | None,
    devices: Sequence[Any] | None = None,
) -> list[Trained]:
    """Train side by side or in sequence."""
    givens = _checked(program, givens, steps, batch_size, record, devices)
    kept = _keeps(program, givens if devices else givens[:1], keep)
    datas = _data(program, givens, steps, batch_size, kept)
    data: Any = next(datas)
    run: Any = _step.start(program, givens[0].initial["params"], data)
    in_python = _step.loops_in_python(program, run, data)
    stacked = bool(devices) or (
        len(givens) > 1
        and not in_python
        and alike(givens)
        and _keeps(program, givens, keep)
    )
    if stacked:
        program, data = _side_by_side(program, [data, *datas], devices)
        params = _stack([given.initial["params"] for given in givens])
        run = _step.start(program, _placed(devices, params, 0), data)
        run = _placed(devices, run, 0)

    stops = {0, steps, *record}
    if progress is not None:
        stops |= {*range(0, steps, max(1, steps // 100))}
    found = []
    for group in [givens] if stacked else [[given] for given in givens]:
        if found:
            run = data = None  # let go before the next one is computed
            data = next(datas)
            run = _step.start(program, group[0].initial["params"], data)
        maps = {}
        if 0 in record:
            maps[0] = _step.fits(program, run.params, data.fixed)
        for begin, end in itertools.pairwise(sorted(stops)):
            run = _step.take(program, run, data, begin, end, in_python)
            if end in record:
                maps[end] = _step.fits(program, run.params, data.fixed)
            if progress is not None:
                jax.block_until_ready(run)
                done = steps * len(found) + end * len(group)
                progress(done, steps * len(givens))
        recorded = _stack([maps[k] for k in record], int(stacked)) if record else None
        whole = _trained(program, run, data, steps, recorded)
        parts = _unstacked(whole, len(group)) if stacked else [whole]
        for given, one in zip(group, parts, strict=True):
            variables = {**given.fixed, "params": one.variables}
            found.append(one._replace(variables=variables))
    return found


def _checked(
    program: Program,
    givens: Sequence[_Given],
    steps: int,
    batch_size: int,
    record: Sequence[int],
    devices: Sequence[Any] | None,
) -> list[_Given]:
    """What is given, checked, and with initial variables."""
    check_stitched(program.stitched)
    layer, samples = program.stitched.layer, [count("x", g.x) for g in givens]
    if len(set(samples)) > 1:
        raise ValueError(
            f"x: expected the same number of samples in each, got {samples}"
        )
    check_integer("steps", steps, 1, None)
    check_integer("batch_size", batch_size, 1, samples[0], "the number of samples")
    for after in record:
        check_integer("record", after, 0, steps, "the number of steps")
    if record and not hasattr(layer, "fit"):
        raise ValueError(
            f"record: expected none, as {type(layer).__name__} has no method `fit` "
            f"that gives its map, got {tuple(record)}"
        )
    givens = [_with_initial(program.stitched, given) for given in givens]
    for given in givens:
        check_given(program, given)
    if devices is not None:
        check_devices(devices, givens)
    return givens


def _trained(
    program: Program, run: Any, data: Data, steps: int, recorded: Fit | None
) -> Trained:
    """What a run has reached, of one stitch or of a stack of them."""
    fit = None
    if hasattr(program.stitched.layer, "fit"):
        fit = _step.fits(program, run.params, data.fixed)
    return Trained(run.params, fit, np.asarray(run.losses)[..., :steps], recorded)


def _with_initial(stitched: Stitched, given: _Given) -> _Given:
    if given.initial is not None:
        return given
    one = jax.tree.map(lambda leaf: leaf[:1], given.x)
    key = jax.random.fold_in(given.key, 0)
    return given._replace(initial=stitched.init(key, given.variables_1, one))


def _data(
    program: Program,
    givens: Sequence[_Given],
    steps: int,
    batch_size: int,
    keep: bool,
) -> Iterator[Data]:
    """The data of each stitch; what follows from one network 1 is computed once."""
    source = key = None
    front: Any = None
    order: Any = None
    for given in givens:
        own = given.variables_1, given.x, given.activation
        if source is None or not all(map(operator.is_, source, own)):
            front = None  # let go before another one is computed
            source, front = own, _front(program.stitched, *own, keep)
        if key is not given.key:
            key, samples = given.key, count("x", given.x)
            order = _step.minibatches(key, samples, batch_size, steps)
        variables_1, activation, x = front
        variables = given.fixed, variables_1, given.variables_2
        task = given.target, given.hyperparameters
        yield Data(*variables, activation, x, *task, order)


def _front(stitched, variables_1, x, activation, keep: bool) -> tuple[Any, Any, Any]:
    """What a step needs of network 1, of its activations, and of the samples."""
    if activation is None and keep:
        activation = front_in_batches(stitched.cut_1, variables_1, x)
    if activation is None:
        return variables_1, None, jax.tree.map(jnp.asarray, x)
    bottleneck = stitched.cut_2.is_bottleneck
    x = _step.Shapes.of(x) if bottleneck else jax.tree.map(jnp.asarray, x)
    return None, jax.tree.map(jnp.asarray, activation), x


def _keeps(program: Program, givens: Sequence[_Given], keep: bool | None) -> bool:
    """Whether network 1's activations are kept for stitches that train at once."""
    front, given = program.stitched.cut_1.front, givens[0]
    if keep is not None or (given.activation is not None and len(givens) == 1):
        return keep is not False
    shapes = jax.tree.leaves(jax.eval_shape(front, given.variables_1, given.x))
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in shapes)
    number = len({(id(g.variables_1), id(g.x), id(g.activation)) for g in givens})
    # Several exist twice while they are stacked.
    return size * (number if number == 1 else 2 * number) <= _SHARE * _memory()


def _memory() -> float:
    """Bytes of the device's memory."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats or device.platform != "cpu":
        return stats.get("bytes_limit", math.inf)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _side_by_side(
    program: Program, datas: Sequence[Data], devices: Sequence[Any] | None
) -> tuple[Program, Data]:
    """The program and data of a stack of stitches."""
    fixed, *fields = zip(*datas, strict=True)
    # The layer's own collections are stacked always, as its parameters are.
    shared: list[Any] = [None if _shared(field) else 0 for field in fields]
    axes: Any = Data(0, *shared)
    trees = [
        field[0] if axis is None else _stack(field)
        for field, axis in zip((fixed, *fields), axes, strict=True)
    ]
    data = Data(*map(functools.partial(_placed, devices), trees, axes))
    return program._replace(axes=axes), data


def _shared(trees: Sequence[PyTree]) -> bool:
    """Whether all trees have the very same leaves."""
    leaves = zip(*map(jax.tree.leaves, trees), strict=True)
    return all(leaf is first for first, *others in leaves for leaf in others)


def _stack(trees: Sequence[PyTree], axis: int = 0) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def _unstacked(tree: PyTree, number: int) -> list[PyTree]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(number)]


def _placed(devices: Sequence[Any] | None, tree: PyTree, axis: int | None) -> PyTree:
    """An equal part of a stack on each device, or what is shared on all of them."""
    if devices is None:
        return tree
    mesh = Mesh(np.array(devices), ("stitches",))
    spec = PartitionSpec() if axis is None else PartitionSpec("stitches")
    return jax.device_put(tree, NamedSharding(mesh, spec))
