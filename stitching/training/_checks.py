"""What a training takes, checked at the door."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from stitching.direct._checks import one_of
from stitching.targets import Target
from stitching.training._batches import count, rows_like
from stitching.training._group import signature, stackable
from stitching.training._program import is_optimizer
from stitching.training._stitched import Stitched
from stitching.training._task import STRATEGIES, Given, Task


def check_stitched(stitched: Any) -> None:
    """Raises a TypeError unless this is a stitched network."""
    if not isinstance(stitched, Stitched):
        raise TypeError(
            f"stitched: expected what stitching.stitch(cut_1, layer, cut_2) gives, got "
            f"{type(stitched).__name__}"
        )


def check_task(task: Task, samples: int) -> None:
    """Raises a ValueError or TypeError unless this can be done with so many samples."""
    _check_integer("steps", task.steps, 1, None)
    _check_integer("batch_size", task.batch_size, 1, samples)
    for after in task.record:
        _check_integer("record", after, 0, task.steps)
    if task.strategy is not None:
        one_of("strategy", task.strategy, STRATEGIES)
    layer = task.program.stitched.layer
    if task.record and not hasattr(layer, "fit"):
        raise ValueError(
            f"record: expected none, as {type(layer).__name__} has no method `fit` "
            f"that gives its map, got {tuple(task.record)}"
        )


def check_givens(task: Task, givens: Sequence[Given]) -> None:
    """Raises a ValueError or TypeError unless all shapes, and labels, fit together."""
    outputs: dict[Any, tuple] = {}  # Tracing takes a while, so equal shapes share it.
    for given in givens:
        kind = signature(given)
        if kind not in outputs:
            outputs[kind] = _outputs(task, given)
        given.target.check(*outputs[kind])


def check_together(task: Task, givens: Sequence[Given]) -> None:
    """Raises a ValueError unless the stitches can be trained as they are asked to."""
    lengths = sorted({count("x", given.x) for given in givens})
    if len(lengths) > 1:
        raise ValueError(
            f"x: expected the same number of samples in each, got {lengths}"
        )
    if task.strategy == "vmap" and not stackable(givens):
        raise ValueError(
            "strategy: 'vmap' expects trees of the same structures, shapes and dtypes "
            "in all stitches; leave it out, or train those that agree together"
        )
    if task.devices is not None:
        _check_devices(task.devices, task.strategy, len(givens))


def _check_devices(devices: Sequence[Any], strategy: Any, stitches: int) -> None:
    strangers = set(devices) - set(jax.local_devices())
    if not devices or strangers or len(set(devices)) < len(devices):
        raise ValueError(
            "devices: expected different devices of this process, as "
            f"jax.local_devices() names them, got {devices!r}"
        )
    if stitches % len(devices):
        raise ValueError(
            f"devices: expected a number that divides the {stitches} stitches, got "
            f"{len(devices)}; give fewer devices, or more stitches"
        )
    if strategy != "vmap":
        raise ValueError(
            f"strategy: expected 'vmap' or None over several devices, got {strategy!r}"
        )


def _outputs(task: Task, given: Given) -> tuple:
    """Shapes of the outputs and the mapped activation, of all samples."""
    samples = count("x", given.x)
    if not isinstance(given.target, Target):
        raise TypeError(
            f"target: expected a stitching.targets.Target, for instance "
            f"targets.hard(labels), got {type(given.target).__name__}"
        )
    if (found := count("target", given.target)) != samples:
        raise ValueError(f"target: expected {samples} samples as x has, got {found}")
    _check_optimizer(task, given)
    activation = _activation(task, given, samples)
    _check_initial(task, given, activation)
    return _given_back(task, given, activation, samples)


def _activation(task: Task, given: Given, samples: int) -> PyTree:
    """Shapes of what network 1 gives for all samples."""
    front = task.program.stitched.cut_1.front
    computed = jax.eval_shape(front, given.variables_1, rows_like(given.x, samples))
    if given.activation is None:
        return computed
    known = rows_like(given.activation, count("activation", given.activation))
    if _shapes(known) != _shapes(computed):
        raise ValueError(
            f"activation: expected what cut_1.front gives for x, shapes "
            f"{_shapes(computed)}, got {_shapes(known)}"
        )
    return known


def _check_initial(task: Task, given: Given, activation: PyTree) -> None:
    layer = task.program.stitched.layer
    expected = jax.eval_shape(layer.init, given.key, activation)
    if not jax.tree.leaves(expected.get("params", {})):
        raise ValueError(
            f"layer: expected parameters to train, got {type(layer).__name__} without"
        )
    places, wanted = _places(given.initial), _places(expected)
    for path in sorted(places.keys() | wanted.keys()):
        if places.get(path) != wanted.get(path):
            raise ValueError(
                f"initial: expected variables of the layer as `stitched.init` gives, "
                f"at {path} shape {wanted.get(path)}, got {places.get(path)}"
            )


def _given_back(task: Task, given: Given, activation: PyTree, samples: int) -> tuple:
    stitched = task.program.stitched
    mapped = jax.eval_shape(stitched.layer.apply, given.initial, activation)
    example = stitched.cut_2.activation
    expected, found = (
        [leaf.shape[1:] for leaf in jax.tree.leaves(tree)] for tree in (example, mapped)
    )
    if example is not None and expected != found:
        raise ValueError(
            f"layer: expected it to give {expected} a sample, as network 2 has at its "
            f"cut, got {found}; set `features` (and `convert`, where maps or tokens "
            f"differ)"
        )
    x = rows_like(given.x, samples)
    logits = jax.eval_shape(stitched.back, given.variables_2, mapped, x)
    if not hasattr(logits, "shape") or logits.ndim < 2:
        raise ValueError(
            f"cut_2: expected a network that gives logits (samples, ..., classes), got "
            f"{_shapes(logits)}"
        )
    return logits, mapped


def _check_optimizer(task: Task, given: Given) -> None:
    optimizer = task.program.optimizer
    ready = is_optimizer(optimizer)
    if ready == (given.hyperparameters is None) and (ready or callable(optimizer)):
        return
    if ready or given.hyperparameters is not None:
        raise TypeError(
            "optimizer: beside hyperparameters, expected a function from those of one "
            f"stitch to an optax optimizer, got {type(optimizer).__name__}"
        )
    raise TypeError(
        f"optimizer: expected an optax.GradientTransformation, got "
        f"{type(optimizer).__name__}"
    )


def _check_integer(name: str, value: Any, least: int, most: int | None) -> None:
    allowed = f"at least {least}" if most is None else f"from {least} to {most}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer {allowed}, got {value!r}")
    if value < least or (most is not None and value > most):
        extra = ", the number of samples" if name == "batch_size" else ""
        extra = ", the number of steps" if name == "record" else extra
        raise ValueError(f"{name}: expected {allowed}{extra}, got {value}")


def _places(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def _shapes(tree: PyTree) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
