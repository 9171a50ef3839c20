"""Variables as named arrays: `params/Dense_0/kernel`."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util


def flatten(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """All arrays of nested dicts, by their paths.

    Raises:
      ValueError: a leaf is no array, or a key is no string or has a slash.
    """
    arrays = {}
    for path, leaf in traverse_util.flatten_dict(dict(variables)).items():
        wrong = [key for key in path if not isinstance(key, str) or "/" in key]
        if wrong:
            raise ValueError(
                f"variables have the key {wrong[0]!r}, expected a string "
                "without a slash"
            )
        name = "/".join(path)
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ValueError(f"{name!r} is a {type(leaf).__name__}, expected an array")
        arrays[name] = np.asarray(leaf)
    return arrays


def unflatten(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of arrays by their paths."""
    return traverse_util.unflatten_dict(dict(arrays), sep="/")


def expected_of(
    module: nn.Module, inputs: jax.Array | jax.ShapeDtypeStruct
) -> dict[str, Any]:
    """The names, shapes and dtypes that a module initialises."""
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    return traverse_util.flatten_dict(variables, sep="/")
