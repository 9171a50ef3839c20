"""What stages return, as JSON that gives it back exactly, or that any reader takes."""

import math
from typing import Any

import jax
import numpy as np


def encode(value: Any) -> Any:
    """A tree that JSON holds exactly; arrays keep their dtype and shape."""
    if isinstance(value, dict):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"stage value: expected string keys, got {wrong[0]!r}")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        content = {"array": array.ravel().tolist(), "shape": list(array.shape)}
        return content | {"dtype": array.dtype.name}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"stage value: expected dicts, lists, numbers, strings, None and arrays, "
        f"got {type(value).__name__}"
    )


def decode(value: Any) -> Any:
    """What `encode` was given, tuples as lists.

    Raises:
        TypeError, ValueError: if an array in it is damaged.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "shape", "dtype"}:
        dtype = np.dtype(value["dtype"])
        if dtype.hasobject or dtype.itemsize > 16:  # what a damaged file might ask for
            raise ValueError(f"an array of dtype {dtype}")
        return np.array(value["array"], dtype).reshape(value["shape"])
    return {key: decode(item) for key, item in value.items()}


def strict(value: Any) -> Any:
    """What every JSON reader accepts: arrays as lists, non-finite numbers as null."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return strict(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
