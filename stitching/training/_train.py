"""Training a stitching layer on the task."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from stitching.direct import Fit
from stitching.targets import Target
from stitching.training._batches import count
from stitching.training._checks import check_givens, check_stitched, check_task
from stitching.training._follow import Ended, follow
from stitching.training._program import Program, mapped
from stitching.training._stitched import Stitched
from stitching.training._task import Given, Progress, Strategy, Task


class Trained(NamedTuple):
    """A stitching layer that was trained on the task.

    Attributes:
        variables: of the layer; `stitched.apply(variables, ...)` runs the network.
        fit: its map as an array, to look at, measure or store; None for a layer that
            has no method `fit`.
        losses: of every step, on its minibatch and before its update.
        recorded: the maps after the steps asked for, stacked in that order (apply one
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
    strategy: Strategy | None = None,
    progress: Progress | None = None,
) -> Trained:
    r"""Trains the layer of a stitched network on the task, and nothing else.

    .. math::

        \min_\theta \; \tfrac1n \sum_i \ell\bigl(\text{back}_2(f_\theta(
        \text{front}_1(x_i))),\, y_i\bigr)

    by minibatches. Both networks are frozen, their BatchNorm too, and so are the
    layer's collections other than "params". Network 1's activations are computed once
    and kept if they take at most half of the memory; a step then runs the layer and
    network 2's back, and differentiates by the layer's parameters only.

    An epoch is a random order of the samples that follows from the key alone; samples
    that are left after its last whole minibatch are left out of it. Whatever the
    strategy, and however often `progress` is called, the result is the same to
    rounding.

    Args:
        stitched: the network, from `stitch`. Equal ones share compilations, if their
            optimizers are the same object.
        variables_1: of network 1.
        variables_2: of network 2.
        x: the samples, both networks' input, along leading axes. May be NumPy's, and
            then need not fit on the device.
        target: what the loss compares with, of the same samples: `targets.hard`,
            `targets.soft`, `targets.cka`, and weighted sums of them.
        optimizer: any of optax, those that take the loss or its function as extra
            arguments included. For `layers.Sparse`, chained with its proximal step.
        key: of the initial layer and of the order of the minibatches.
        steps: how many minibatches are seen.
        batch_size: samples a minibatch; len(x) for full gradients.
        initial: variables of the layer to start from, for instance
            `layers.from_fit(layer, fit)`; by default `stitched.init` with the key.
        activation: what network 1 gives for x, where it is known already, from
            `in_batches(cut.front, variables_1, x)`.
        keep: whether network 1's activations are kept, or else computed for every
            minibatch anew; by default as memory allows.
        record: after how many steps the map is recorded, for instance (0, 1, 10, 100).
        strategy: how steps are taken, "scan" in a compiled loop or "loop" from Python;
            by default whichever is timed faster.
        progress: called as `progress(done, steps)` about once a second.

    Returns:
        The `Trained` layer.

    Raises:
        TypeError: if the network is not from `stitch`, the target no `Target`, or the
            optimizer none.
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
    task = Task(
        Program(stitched, optimizer),
        steps,
        batch_size,
        record,
        keep,
        strategy,
        progress,
    )
    given = Given(variables_1, variables_2, x, target, key, initial, activation, None)
    (found,) = trained(task, [given])
    return found


def trained(task: Task, givens: Sequence[Given]) -> list[Trained]:
    """Checks, completes and trains stitches."""
    stitched = task.program.stitched
    check_stitched(stitched)
    check_task(task, count("x", givens[0].x))
    givens = [_begun(stitched, given) for given in givens]
    check_givens(task, givens)
    ended = follow(task, givens)
    return [_result(task, *each) for each in zip(givens, ended, strict=True)]


def _begun(stitched: Stitched, given: Given) -> Given:
    """With initial variables of the layer."""
    if given.initial is not None:
        return given
    key = jax.random.fold_in(given.key, 0)
    one = jax.tree.map(lambda leaf: leaf[:1], given.x)
    return given._replace(initial=stitched.init(key, given.variables_1, one))


def _result(task: Task, given: Given, ended: Ended) -> Trained:
    run, recorded = ended
    fixed = {k: v for k, v in given.initial.items() if k != "params"}
    fit = None
    if hasattr(task.program.stitched.layer, "fit"):
        fit = mapped(task.program, run.params, fixed, False)
    return Trained(
        {**fixed, "params": run.params},
        fit,
        np.asarray(run.losses)[: task.steps],
        recorded,
    )
