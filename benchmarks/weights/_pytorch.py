"""Between PyTorch's state dicts and Flax's variables."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from ..models import ResNet
from ._archive import WeightsError
from ._check import check
from ._layers import pytorch_layers
from ._names import expected_of, flatten, unflatten

# Flax's name of a leaf in its layer, and PyTorch's.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# With epsilon, the variance is one.
_COPYING_NORM = {
    "weight": 1.0,
    "bias": 0.0,
    "running_mean": 0.0,
    "running_var": 1.0 - 1e-5,
}


def from_pytorch(
    state: Mapping[str, np.ndarray],
    module: nn.Module,
    inputs: jax.Array | jax.ShapeDtypeStruct,
) -> dict[str, Any]:
    """Make Flax variables of a PyTorch state dict.

    Args:
      state: arrays by PyTorch's names, in PyTorch's layouts.
      module: the network, a `Tiny10` or a `ResNet` with BatchNorm.
      inputs: an example of its inputs, or its shape.

    Returns:
      The variables, NumPy arrays of the dtypes in `state`.

    Raises:
      WeightsError: names or shapes are not those of the network.
      ValueError: the names in PyTorch are not known for such a module.
    """
    expected = expected_of(module, inputs)
    names = _pytorch_names(module, expected)
    wanted = {
        theirs: jax.eval_shape(_to_pytorch, expected[ours])
        for ours, theirs in names.items()
    }
    found = _usual_names(state, module)
    if not any(".shortcut." in name for name in found):
        found |= _copying_shortcuts(wanted)
    check(found, wanted)
    return unflatten({ours: _to_flax(found[theirs]) for ours, theirs in names.items()})


def to_pytorch(
    variables: Mapping[str, Any], module: nn.Module
) -> dict[str, np.ndarray]:
    """Make a PyTorch state dict of Flax variables: the inverse of `from_pytorch`.

    Args:
      variables: those of the module.
      module: the network, a `Tiny10` or a `ResNet` with BatchNorm.

    Returns:
      Arrays by PyTorch's names, in PyTorch's layouts; for a residual network the names
      are `shortcut` and `linear`. `save` writes them too.

    Raises:
      ValueError: the names in PyTorch are not known for such a module.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from benchmarks import models
      >>> module = models.Tiny10()
      >>> x = jnp.ones((1, 32, 32, 3))
      >>> shapes = jax.eval_shape(module.init, jax.random.key(0), x)
      >>> variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
      >>> to_pytorch(variables, module)["conv3.weight"].shape
      (32, 16, 3, 3)
    """
    leaves = flatten(variables)
    names = _pytorch_names(module, leaves)
    return {theirs: _to_pytorch(leaves[ours]) for ours, theirs in names.items()}


# Kernels are (height, width, in, out) here and (out, in, height, width) there, dense
# ones (in, out) and (out, in).


def _to_pytorch(array: Any) -> Any:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _to_flax(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _pytorch_names(module: nn.Module, flax_names: Iterable[str]) -> dict[str, str]:
    """PyTorch's name of every leaf, by Flax's."""
    layers = pytorch_layers(module)
    names = {}
    for name in flax_names:
        layer, _, leaf = name.partition("/")[2].rpartition("/")
        if layer not in layers or leaf not in _LEAVES:
            raise WeightsError(
                f"variables have {name!r}, which {type(module).__name__} does not"
            )
        names[name] = f"{layers[layer]}.{_LEAVES[leaf]}"
    return names


def _usual_names(
    state: Mapping[str, np.ndarray], module: nn.Module
) -> dict[str, np.ndarray]:
    """The state dict under the names of `pytorch_layers`, without counters."""
    usual = {}
    for theirs, array in state.items():
        name = theirs.removeprefix("module.")
        if isinstance(module, ResNet):
            name = name.replace(".downsample.", ".shortcut.")
            name = re.sub("^fc[.]", "linear.", name)
        if name in usual:
            raise WeightsError(f"{theirs!r} is {name!r}, which is there twice")
        if not name.endswith(".num_batches_tracked"):
            usual[name] = np.asarray(array)
    return usual


def _copying_shortcuts(
    wanted: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, np.ndarray]:
    """Convolutions and norms that do what shortcuts without weights do.

    Option A of He et al. takes every second position and puts as many channels of
    zeros before the input's as after them: a 1×1 convolution that copies, and a norm
    that changes nothing.
    """
    leaves = {}
    for name, leaf in wanted.items():
        if name.endswith(".shortcut.0.weight"):
            before = (leaf.shape[0] - leaf.shape[1]) // 2
            copy = np.eye(*leaf.shape[:2], k=-before, dtype=np.float32)
            leaves[name] = copy[:, :, None, None]
        elif ".shortcut.1." in name:
            value = _COPYING_NORM[name.rpartition(".")[2]]
            leaves[name] = np.full(leaf.shape, value, np.float32)
    return leaves
