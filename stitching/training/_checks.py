"""Input validation of trainings."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors
from jaxtyping import PyTree

from stitching.targets import Target
from stitching.training._batches import count
from stitching.training._step import Program, is_optimizer


def check_integer(name: str, value: Any, least: int, most: Any, what: str = "") -> None:
    """Raise a TypeError or ValueError unless this is an integer within limits."""
    limits = f"at least {least}" if most is None else f"from {least} to {most}, {what}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer {limits}, got {value!r}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}: expected {limits}, got {value}")


def check_devices(devices: Sequence[Any], givens: Sequence[Any]) -> None:
    """Raise a ValueError unless stitches can be spread over the devices."""
    distinct = set(devices) <= set(jax.local_devices())
    if not devices or not distinct or len(set(devices)) < len(devices):
        raise ValueError(
            "devices: expected different devices of this process, as "
            f"jax.local_devices() names them, got {devices!r}"
        )
    if len(givens) % len(devices):
        raise ValueError(
            f"devices: expected a number that divides the {len(givens)} stitches, got "
            f"{len(devices)}; give fewer devices, or more stitches"
        )
    if not alike(givens):
        raise ValueError(
            "devices: expected None, as the trees of the stitches differ in structure, "
            f"shapes or dtypes, got {len(devices)} devices; train those that agree "
            "together"
        )


def check_given(program: Program, given: Any) -> None:
    """Raise a ValueError or TypeError unless shapes and labels fit together."""
    if not isinstance(given.target, Target):
        raise TypeError(
            f"target: expected a stitching.targets.Target, for instance "
            f"targets.hard(labels), got {type(given.target).__name__}"
        )
    samples = count("x", given.x)
    if (found := count("target", given.target)) != samples:
        raise ValueError(f"target: expected {samples} samples as x has, got {found}")
    optimizer = program.optimizer
    makes_one = callable(optimizer) and not is_optimizer(optimizer)
    if given.hyperparameters is not None and not makes_one:
        raise TypeError(
            "optimizer: with hyperparameters, expected a function from those of one "
            f"stitch to an optax optimizer, got {type(optimizer).__name__}"
        )
    if given.hyperparameters is None and not is_optimizer(optimizer):
        raise TypeError(
            f"optimizer: expected an optax.GradientTransformation, got "
            f"{type(optimizer).__name__}"
        )
    kept = given.key, given.initial, given.activation
    networks = given.variables_1, given.variables_2, given.x
    given.target.check(*_outputs.eval_shape(program.stitched, *kept, *networks))


@functools.partial(jax.jit, static_argnums=0)
def _outputs(stitched, key, initial, activation, variables_1, variables_2, x):
    """Outputs and mapped activation; traced, and so checked, once per set of shapes."""
    computed = stitched.cut_1.front(variables_1, x)
    if activation is None:
        activation = computed
    elif _shapes(activation) != _shapes(computed):
        raise ValueError(
            f"activation: expected what cut_1.front gives for x, shapes "
            f"{_shapes(computed)}, got {_shapes(activation)}"
        )
    layer = stitched.layer
    expected = jax.eval_shape(layer.init, key, activation)
    if not jax.tree.leaves(expected.get("params", {})):
        raise ValueError(
            f"layer: expected parameters to train, got {type(layer).__name__} without"
        )
    found, wanted = _places(initial), _places(expected)
    for path in sorted(found.keys() | wanted.keys()):
        if found.get(path) != wanted.get(path):
            raise ValueError(
                f"initial: expected variables of the layer as `stitched.init` gives, "
                f"at {path} shape {wanted.get(path)}, got {found.get(path)}"
            )
    try:
        mapped = layer.apply(initial, activation)
    except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
        raise ValueError(
            f"layer: expected one that neither changes its variables nor draws random "
            f"numbers while it runs, got {type(layer).__name__}, which does; set the "
            "attributes that turn this off, for instance `deterministic=True` of "
            "Dropout or `use_running_average=True` of BatchNorm"
        ) from error
    own = stitched.cut_2.activation
    if own is not None:  # for an example, whose size need not be that of x
        own = jax.eval_shape(stitched.cut_2.front, variables_2, x)
    wanted, given = ([shape[1:] for shape in _shapes(tree)] for tree in (own, mapped))
    if own is not None and wanted != given:
        raise ValueError(
            f"layer: expected it to give {wanted} per sample, as network 2 has at its "
            f"cut, got {given}; set `features` (and `convert`, where maps or tokens "
            f"differ)"
        )
    return stitched.back(variables_2, mapped, x), mapped


def alike(trees: Sequence[PyTree]) -> bool:
    """Return whether trees have the same structures, shapes and dtypes."""

    def signature(tree):
        leaves, structure = jax.tree.flatten(tree)
        return structure, *((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)

    return len(set(map(signature, trees))) == 1


def _shapes(tree: PyTree) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _places(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
