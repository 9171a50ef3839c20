"""Flax networks, Linen and NNX, and their dense and convolutional layers.

A network is a Linen function `apply(variables, inputs)`, or an NNX module, whose
variables are an `nnx.State`. A layer's path is that of its module: `block/Conv_1`.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict, freeze
from jaxtyping import Array, PyTree

from combinability._checks import path_name
from combinability._jaxpr import trace_state

Network = Callable[[PyTree, Any], Any] | nnx.Module
# What becomes of a layer's output: path, output, how many last axes are its channels.
Change = Callable[[str, Array, int], Array]

_INTERCEPT = "_combinability_intercept"
# Classes of NNX layers are changed while a network runs: in one thread at a time.
_lock = threading.RLock()


def run_layers(
    network: Network,
    variables: PyTree,
    inputs: Any,
    layers: Callable[[str], bool],
    change: Change,
    expected: Collection[str] | None = None,
) -> Any:
    """Apply a network with the outputs of selected layers changed."""
    met: list[str] = []
    outside = trace_state()

    def intercept(path: str, y: Array, axes: int) -> Array:
        if not layers(path):
            return y
        if path in met:
            raise ValueError(f"layers: {path!r} is called more than once; leave it out")
        if trace_state() != outside:
            raise ValueError(
                f"layers: {path!r} is inside a transformation (jax.jit, nn.scan, "
                "nn.remat) and cannot be reached; jit what surrounds the network, or "
                "leave the layer out"
            )
        met.append(path)
        return change(path, y, axes)

    run = _run_nnx if isinstance(network, nnx.Module) else _run_linen
    output = run(network, variables, inputs, intercept)
    if not met or (expected is not None and set(met) != set(expected)):
        raise ValueError(
            f"apply: met the layers {met}, expected "
            f"{'dense or convolutional ones' if expected is None else list(expected)}; "
            "is it a Flax Linen network, and not jitted, or an NNX module?"
        )
    return output


def _channel_axes(layer: Any) -> int:
    """How many last axes of a layer's outputs and kernel are channels; 0 of others."""
    if isinstance(layer, nn.DenseGeneral):
        return np.size(layer.features)
    if isinstance(layer, nnx.LinearGeneral):
        return np.size(layer.out_features)
    if isinstance(layer, nn.ConvTranspose | nnx.ConvTranspose):
        # A transposed kernel has its channels on another axis.
        return int(not layer.transpose_kernel)
    return int(isinstance(layer, nn.Dense | nn.Conv | nnx.Linear | nnx.Conv))


def _run_linen(apply: Any, variables: PyTree, inputs: Any, intercept: Change) -> Any:
    def interceptor(next_function, args, kwargs, context):
        y = next_function(*args, **kwargs)
        axes = _channel_axes(context.module)
        if axes and context.method_name == "__call__":
            return intercept("/".join(context.module.path), y, axes)
        return y

    with nn.intercept_methods(interceptor):
        return apply(variables, inputs)


def module_with(module: Any, variables: PyTree) -> Any:
    """Return a copy of an NNX module with its state, or a part of it, replaced."""
    if not isinstance(variables, nnx.State):
        raise TypeError(
            "variables: expected nnx.state(module), or a part of it, got "
            f"{type(variables).__name__}"
        )
    copy = nnx.clone(module)
    known = layer_arrays(nnx.state(copy))
    for name, leaf in layer_arrays(variables).items():
        shape = np.shape(known[name]) if name in known else "nothing of that name"
        if np.shape(leaf) != shape:
            raise ValueError(
                f"variables: expected nnx.state(module), or a part of it, got {name!r} "
                f"of shape {np.shape(leaf)}; the module has {shape}"
            )
    nnx.update(copy, variables)
    return copy


def as_function(network: Callable[..., Any]) -> Callable[..., Any]:
    """Return a network as a function of variables and inputs."""
    if not isinstance(network, nnx.Module):
        return network
    return lambda variables, *inputs: module_with(network, variables)(*inputs)


def _run_nnx(module: Any, variables: PyTree, inputs: Any, intercept: Change) -> Any:
    copy = module_with(module, variables)
    classes = set()
    for parts, layer in nnx.iter_modules(copy):
        if axes := _channel_axes(layer):
            path = "/".join(map(str, parts))

            def change(y, path=path, axes=axes):
                return intercept(path, y, axes)

            # Transformations of NNX copy a layer with its attributes.
            object.__setattr__(layer, _INTERCEPT, change)
            classes.add(type(layer))
    with _lock, contextlib.ExitStack() as stack:
        for layer in classes:
            stack.enter_context(_intercepted(layer))
        return copy(inputs)


@contextlib.contextmanager
def _intercepted(layer: type[nnx.Module]) -> Iterator[None]:
    """Pass outputs of the layers of a class through their attribute `_INTERCEPT`.

    The class itself is changed, for the time being: a subclass in its place would be
    another type, on which a network may decide what to do.
    """
    own = vars(layer).get("__call__")  # None where it is inherited
    original = layer.__call__

    def call(self, *args, **kwargs):
        y = original(self, *args, **kwargs)
        # Where a class calls that of its parent, the outermost output is the layer's.
        change = vars(self).get(_INTERCEPT) if type(self) is layer else None
        return y if change is None else change(y)

    type.__setattr__(layer, "__call__", call)
    try:
        yield
    finally:
        if own is None:
            type.__delattr__(layer, "__call__")
        else:
            type.__setattr__(layer, "__call__", own)


def layer_arrays(variables: PyTree) -> dict[str, Array]:
    """Return parameters by path, as `block/Conv_1/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(_parameters(variables))
    return {layer_path(path): leaf for path, leaf in leaves}


def with_arrays(variables: PyTree, arrays: Mapping[str, Array]) -> PyTree:
    """Return variables with the parameters of `layer_arrays`, changed."""
    new = jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays[layer_path(path)], _parameters(variables)
    )
    if isinstance(variables, nnx.State):
        return new
    return with_collection(variables, "params", new)


def with_collection(
    variables: Mapping[str, PyTree], name: str, collection: PyTree
) -> Mapping[str, PyTree]:
    """Return the variables of a Linen network with one collection replaced."""
    new = {**variables, name: collection}
    return freeze(new) if isinstance(variables, FrozenDict) else new


def _parameters(variables: PyTree) -> PyTree:
    if isinstance(variables, nnx.State):
        return variables
    if isinstance(variables, Mapping) and "params" in variables:
        return variables["params"]
    raise ValueError(
        "variables: expected those of a Flax Linen network, a dict with 'params', or "
        f"nnx.state(module), got {type(variables).__name__}"
    )


def layer_path(path: Any) -> str:
    """Return the path of a leaf as `block/Conv_1/kernel`."""
    # A leaf of a state is the value of a variable.
    return path_name(path).removesuffix("/value")


def at_least_float32(x: Any) -> Array:
    """An array in at least float32: in half precision statistics round or overflow."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def square_root(x: Array) -> Array:
    """Return √x, with a gradient of 0 where x is 0."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))
