"""Reading a network's variables from a file, and writing them."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from ..runs import write_atomically
from ._archive import WeightsError, read, safetensors_bytes
from ._check import check
from ._names import expected_of, flatten, unflatten
from ._pytorch import from_pytorch

# Bytes in a file besides its weights: headers, PyTorch's counters.
_BESIDE = 2**20


def load(
    path: str | os.PathLike[str],
    module: nn.Module,
    inputs: jax.Array | jax.ShapeDtypeStruct,
) -> dict[str, Any]:
    """Load the variables of a network.

    Args:
      path: a safetensors file or NumPy archive, with the names of Flax (`save` writes
        those) or of PyTorch; see `benchmarks.weights`.
      module: the network. PyTorch's names are known for `Tiny10` and for `ResNet` with
        BatchNorm.
      inputs: an example of its inputs, or its shape as a `jax.ShapeDtypeStruct`.

    Returns:
      The variables, NumPy arrays of the dtypes in the file.

    Raises:
      WeightsError: the file is missing, damaged or a pickle; or its names, shapes or
        kinds of number are not those of the network; or it claims more than the network
        takes in float64.

    Example:
      >>> import tempfile, jax, jax.numpy as jnp
      >>> from benchmarks import models, weights
      >>> module, x = models.MLP(classes=3), jnp.ones((1, 4))
      >>> variables = module.init(jax.random.key(0), x)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     weights.save(f"{folder}/mlp.safetensors", variables)
      ...     again = weights.load(f"{folder}/mlp.safetensors", module, x)
      >>> bool((module.apply(again, x) == module.apply(variables, x)).all())
      True
    """
    path = Path(path)
    expected = expected_of(module, inputs)
    arrays = read(path, _room_for(expected))
    try:
        if any("/" in name for name in arrays):
            check(arrays, expected)
            return unflatten(arrays)
        return from_pytorch(arrays, module, inputs)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def _room_for(expected: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """Bytes that a file of such arrays takes at most, in whatever precision."""
    numbers = sum(math.prod(leaf.shape) for leaf in expected.values())
    return 8 * numbers + _BESIDE


def save(path: str | os.PathLike[str], variables: Mapping[str, Any]) -> None:
    """Write variables as a safetensors file, whole or not at all.

    Arrays keep their dtype, bfloat16 too, and are named by their paths, joined by
    slashes; no metadata is written. What `to_pytorch` returns is written by its names.

    Args:
      path: the file, replaced in one step.
      variables: nested dicts of arrays.

    Raises:
      ValueError: a leaf is no array, or of a dtype that the format does not have.
      RunError: the file cannot be written.
    """
    write_atomically(Path(path), safetensors_bytes(flatten(variables)))
