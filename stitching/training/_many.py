"""Training many stitches at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray, PyTree

from stitching.targets import Target
from stitching.training._checks import check_together
from stitching.training._program import Program
from stitching.training._stitched import Stitched
from stitching.training._task import Given, Progress, Strategy, Task
from stitching.training._train import Trained, trained


class Each(NamedTuple):
    """What differs from stitch to stitch; made by `each`."""

    values: tuple[Any, ...]


def each(values: Iterable[Any]) -> Any:
    """One value for each stitch of `train_many`.

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
    strategy: Strategy | None = None,
    devices: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> list[Trained]:
    """Trains many stitches of one kind, side by side or in sequence.

    Each is trained as `train` would, to rounding. What differs is given as
    `each([...])`: variables of either network (pairs), targets, keys, initial variables
    of the layer (seeds, inits, fits, masks), hyper-parameters; everything else is
    shared, and what follows from it is computed once. Stitches that share their key see
    the same minibatches. Layers of different classes or ranks are different stitched
    networks: train them by themselves, with `activation`.

    Args:
        stitched, x, target, key, initial, activation: as in `train`, or `each` of them
            but for `stitched`.
        variables_1, variables_2: as in `train`, or `each` of them.
        optimizer: as in `train`; beside hyper-parameters, a function from those of one
            stitch to an optimizer.
        steps, batch_size, keep, record: as in `train`, of every stitch.
        hyperparameters: arguments of the optimizer, such as `each(jnp.array([0.0,
            0.1]))` of a learning rate or an L1 penalty; traced.
        strategy: "vmap" (side by side), "scan" or "loop"; by default whichever is timed
            faster.
        devices: devices of this process over which the stitches are spread, equally
            many on each, side by side (strategy "vmap"); by default the default one
            has them all. Several processes (`jax.distributed`) each train stitches of
            their own.
        progress: called as `progress(done, total)`, in steps of all stitches together.

    Returns:
        A `Trained` layer for each.

    Raises:
        TypeError, ValueError: as `train`; and if nothing is `each`, they differ in
            length, samples are not equally many, the strategy is "vmap" and the
            trees of the stitches differ in structure or shapes, or the stitches cannot
            be spread over the devices.

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

    References:
        The choice by timing: ours.
    """
    task = Task(
        Program(stitched, optimizer),
        steps,
        batch_size,
        record,
        keep,
        "vmap" if strategy is None and devices is not None else strategy,
        progress,
        None if devices is None else tuple(devices),
    )
    given = Given(
        variables_1, variables_2, x, target, key, initial, activation, hyperparameters
    )
    givens = _spread(given)
    check_together(task, givens)
    return trained(task, givens)


def _spread(given: Given) -> list[Given]:
    """One for each stitch; what they share is the same object in all."""
    lengths = {
        name: len(value.values)
        for name, value in given._asdict().items()
        if isinstance(value, Each)
    }
    if not lengths or 0 in lengths.values():
        raise ValueError(
            "train_many: expected something that differs, as `each` of at least 1 "
            f"value, got {lengths or 'nothing'}"
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"train_many: expected as many values in `each`, got {lengths}"
        )
    number = next(iter(lengths.values()))

    def values(name, value):
        if isinstance(value, Each):
            return value.values
        if name != "x":  # Which may be too large for the device.
            value = jax.tree.map(jnp.asarray, value)
        return (value,) * number

    columns = [values(name, value) for name, value in given._asdict().items()]
    return [Given(*row) for row in zip(*columns, strict=True)]
