"""Training stitching layers on the task: one, or many at once."""

import functools
import itertools
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from stitching.direct import Fit
from stitching.targets import Target
from stitching.training import _checks as checks
from stitching.training import _step
from stitching.training._batches import count, in_batches
from stitching.training._step import Data, Program, Run
from stitching.training._stitched import Stitched

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
    Python loop over a compiled step, as convolution gradients are slow inside compiled
    loops there. Nothing is timed: the same call gives the same bits. A second call with
    an equal `stitched` network, the same `optimizer` object and equal shapes traces and
    compiles nothing: these are the static arguments of `jax.jit`, and its cache holds
    the programs. So make cuts and optimizers once, outside of loops.

    Args:
        stitched: the network, from `stitch`.
        variables_1: of network 1.
        variables_2: of network 2.
        x: the samples, both networks' input, along leading axes. NumPy arrays need not
            fit on the device.
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
        TypeError: if the network is not from `stitch`, the target is no `Target`, or
            the optimizer is none.
        ValueError: if lengths or shapes do not fit each other, the layer does not give
            what network 2 has at its cut or trains nothing, a label is no class, the
            minibatch is larger than the data, or a number is out of range.

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
        >>> predicted = stitched.apply(found.variables, a, b, x).argmax(axis=-1)
        >>> bool((predicted == logits.argmax(axis=-1)).mean() > 0.8)
        True
        >>> found.fit.weight.shape, found.losses.shape, found.recorded.weight.shape
        ((8, 8), (100,), (2, 8, 8))

    References:
        Csiszárik et al., 2021, arXiv 2110.14633, section 4.
    """
    given = Given(variables_1, variables_2, x, target, key, initial, activation, None)
    options = Options(steps, batch_size, record, keep, progress)
    return _train(Program(stitched, optimizer), [given], options)[0]


class Each(NamedTuple):
    """What differs between stitches; made by `each`."""

    values: tuple[Any, ...]


def each(values: Iterable[Any]) -> Any:
    """Give each stitch of `train_many` a value of its own.

    Args:
        values: in the order of the stitches: a list, or an array along its first axis.

    Returns:
        What `train_many` takes in the place of a value that all share.

    Example:
        >>> import jax, stitching
        >>> len(stitching.each(jax.random.split(jax.random.key(0), 8)).values)
        8
    """
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
    `each([...])`: variables of either network (pairs), targets, keys, initial variables
    of the layer (seeds, inits, fits, masks), hyper-parameters; everything else is
    shared, and what follows from it is computed once. Stitches that share their key see
    the same minibatches. Layers of different classes or ranks are different stitched
    networks: train them by themselves, with `activation`.

    Stitches run side by side (`vmap`) if their trees have the same shapes and network
    1's activations of all of them are kept; in sequence otherwise, and on a CPU if a
    step contains a convolution.

    Args:
        stitched, x, target, key, initial, activation: as in `train`, or `each` of them
            (but for `stitched`).
        variables_1, variables_2: as in `train`, or `each` of them.
        optimizer: as in `train`; with hyper-parameters, a function from those of one
            stitch to an optimizer.
        steps, batch_size, keep, record: as in `train`, for every stitch.
        hyperparameters: arguments of the optimizer, such as `each(jnp.array([0.0,
            0.1]))` of a learning rate or an L1 penalty; traced.
        devices: devices of this process over which the stitches are spread, equally
            many on each, side by side; by default all are on the default device.
            Several processes (`jax.distributed`) each train stitches of their own.
        progress: called as `progress(done, total)`, in steps of all stitches together.

    Returns:
        One `Trained` layer per stitch.

    Raises:
        TypeError, ValueError: as `train`; and if nothing is `each`, they differ in
            length, the stitches differ in the number of samples, or they cannot be
            spread over the devices (too few, or shapes that differ).

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
    shared = Given(
        variables_1, variables_2, x, target, key, initial, activation, hyperparameters
    )
    options = Options(steps, batch_size, record, keep, progress)
    return _train(Program(stitched, optimizer), _separate(shared), options, devices)


class Given(NamedTuple):
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


class Options(NamedTuple):
    """What all stitches have in common, but for the program."""

    steps: int
    batch_size: int
    record: Sequence[int]
    keep: bool | None
    progress: Progress | None

    @property
    def stops(self) -> list[int]:
        """Steps after which a map is recorded or progress reported."""
        stops = {0, self.steps, *self.record}
        if self.progress is not None:
            stops |= {*range(0, self.steps, max(1, self.steps // 100))}
        return sorted(stops)


def _separate(shared: Given) -> list[Given]:
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

    return [
        Given(*row)
        for row in zip(*itertools.starmap(values, fields.items()), strict=True)
    ]


def _train(
    program: Program,
    givens: Sequence[Given],
    options: Options,
    devices: Sequence[Any] | None = None,
) -> list[Trained]:
    """Check and complete what is given, and train side by side or in sequence."""
    checks.check_options(program.stitched, options, [count("x", g.x) for g in givens])
    givens = [_with_initial(program.stitched, given) for given in givens]
    for given in givens:
        checks.check_given(program, given)
    if devices is not None:
        checks.check_devices(devices, givens)
    keep = _keeps(program, givens if devices else givens[:1], options.keep)
    datas = _data(program, givens, options, keep)
    data: Any = next(datas)
    run = _step.start(program, givens[0].initial["params"], data)
    in_python = _step.loops_in_python(program, run, data)
    if devices or (
        len(givens) > 1
        and not in_python
        and checks.alike(givens)
        and _keeps(program, givens, options.keep)
    ):
        each = [data, *datas]
        return _side_by_side(program, givens, each, options, in_python, devices)
    found = []
    progress: Any = options.progress
    for number, given in enumerate(givens):

        def tell(done, before=number * options.steps):
            progress(before + done, len(givens) * options.steps)

        whole = _follow(program, run, data, options, in_python, tell)
        found.append(_trained(given, *whole))
        data = None  # let go before the next one is computed
        if number + 1 < len(givens):
            data = next(datas)
            run = _step.start(program, givens[number + 1].initial["params"], data)
    return found


def _side_by_side(
    program: Program,
    givens: Sequence[Given],
    datas: Sequence[Data],
    options: Options,
    in_python: bool,
    devices: Sequence[Any] | None,
) -> list[Trained]:
    """Train a stack of stitches."""
    fields = list(zip(*datas, strict=True))
    # The layer's own collections are stacked always, as its parameters are.
    shared: list[Any] = [None if _shared(field) else 0 for field in fields[1:]]
    axes: Any = Data(0, *shared)
    trees = [
        field[0] if axis is None else _stack(field)
        for field, axis in zip(fields, axes, strict=True)
    ]
    params = _stack([given.initial["params"] for given in givens])
    program = program._replace(axes=axes)
    data = Data(*map(functools.partial(_placed, devices), trees, axes))
    run = _step.start(program, _placed(devices, params, 0), data)
    run = _placed(devices, run, 0)

    progress: Any = options.progress

    def tell(done):
        progress(done * len(givens), len(givens) * options.steps)

    whole = _follow(program, run, data, options, in_python, tell)
    each = [jax.tree.map(lambda leaf: leaf[i], whole) for i in range(len(givens))]  # noqa: B023
    return [_trained(given, *one) for given, one in zip(givens, each, strict=True)]


def _follow(
    program: Program,
    run: Run,
    data: Data,
    options: Options,
    in_python: bool,
    tell: Callable[[int], None],
) -> tuple[PyTree, np.ndarray, Fit | None, list[Fit]]:
    """Take all steps; parameters, losses, the map, and the maps that are recorded."""
    recorded = {}
    if 0 in options.record:
        recorded[0] = _step.fits(program, run.params, data.fixed)
    for begin, end in itertools.pairwise(options.stops):
        run = _step.take(program, run, data, begin, end, in_python)
        if end in options.record:
            recorded[end] = _step.fits(program, run.params, data.fixed)
        if options.progress is not None:
            jax.block_until_ready(run)
            tell(end)
    fit = None
    if hasattr(program.stitched.layer, "fit"):
        fit = _step.fits(program, run.params, data.fixed)
    losses = np.asarray(run.losses)[..., : options.steps]
    return run.params, losses, fit, [recorded[after] for after in options.record]


def _trained(given: Given, params: PyTree, losses: Any, fit: Any, maps: Any) -> Trained:
    recorded = jax.tree.map(lambda *each: jnp.stack(each), *maps) if maps else None
    variables = {**given.fixed, "params": params}
    return Trained(variables, fit, losses, recorded)


def _with_initial(stitched: Stitched, given: Given) -> Given:
    if given.initial is not None:
        return given
    one = jax.tree.map(lambda leaf: leaf[:1], given.x)
    key = jax.random.fold_in(given.key, 0)
    return given._replace(initial=stitched.init(key, given.variables_1, one))


def _data(
    program: Program, givens: Sequence[Given], options: Options, keep: bool
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
            order = _step.minibatches(key, samples, options.batch_size, options.steps)
        variables_1, activation, x = front
        yield Data(
            given.fixed,
            variables_1,
            given.variables_2,
            activation,
            x,
            given.target,
            given.hyperparameters,
            order,
        )


def _front(stitched, variables_1, x, activation, keep: bool) -> tuple[Any, Any, Any]:
    """What a step needs of network 1, of its activations, and of the samples."""
    if activation is None and keep:
        activation = in_batches(stitched.cut_1.front, variables_1, x)
    if activation is None:
        return variables_1, None, jax.tree.map(jnp.asarray, x)
    x = None if stitched.cut_2.is_bottleneck else jax.tree.map(jnp.asarray, x)
    return None, jax.tree.map(jnp.asarray, activation), x


def _keeps(program: Program, givens: Sequence[Given], keep: bool | None) -> bool:
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


def _shared(trees: Sequence[PyTree]) -> bool:
    """Whether all trees have the very same leaves."""
    leaves = zip(*map(jax.tree.leaves, trees), strict=True)
    return all(leaf is first for first, *others in leaves for leaf in others)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _placed(devices: Sequence[Any] | None, tree: PyTree, axis: int | None) -> PyTree:
    """An equal part of a stack on each device, or what is shared on all of them."""
    if devices is None:
        return tree
    mesh = Mesh(np.array(devices), ("stitches",))
    spec = PartitionSpec() if axis is None else PartitionSpec("stitches")
    return jax.device_put(tree, NamedSharding(mesh, spec))
