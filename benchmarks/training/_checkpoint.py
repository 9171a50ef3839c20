"""Unfinished training on disk: written whole or not at all, read back bit by bit."""

import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.runs import write_atomically
from combinability._arrays_file import read_arrays


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or that belongs to another training."""


def save(path: Path, asked: dict[str, Any], tree: Any) -> None:
    """Writes a pytree of arrays, and what training it belongs to.

    Args:
      path: The file, replaced in one step.
      asked: What was asked of the training; JSON.
      tree: A pytree of arrays.
    """
    leaves = jax.device_get(jax.tree.leaves(tree))
    arrays: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
    arrays["asked"] = np.array(json.dumps(asked, sort_keys=True))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def read_asked(path: Path) -> dict[str, Any]:
    """Returns what was asked of the training that is kept in a checkpoint.

    Raises:
      CheckpointError: If the file is damaged.
    """
    return _read(path)[0]


def load(path: Path, asked: dict[str, Any], like: Any) -> Any:
    """Reads what `save` wrote.

    Args:
      path: The file.
      asked: What is asked of the training now: must be what was asked then.
      like: A pytree of arrays with the structure, shapes and dtypes expected.

    Returns:
      A pytree like `like`, of NumPy arrays.

    Raises:
      CheckpointError: If the file is damaged or belongs to another training.
    """
    stored, arrays = _read(path)
    differing = [
        f"{name} was {stored.get(name)!r}, now {asked.get(name)!r}"
        for name in sorted(stored.keys() | asked.keys())
        if stored.get(name) != asked.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"checkpoint {path} belongs to another training: {'; '.join(differing)}."
            " Delete it, or give another path."
        )
    leaves, structure = jax.tree.flatten(like)
    names = [f"leaf_{i}" for i in range(len(leaves))]
    wanted = {
        name: (np.shape(leaf), _stored(leaf.dtype))
        for name, leaf in zip(names, leaves, strict=True)
    }
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != wanted:
        raise CheckpointError(
            f"checkpoint {path} has arrays of another optimizer or network than the one"
            " trained now. Delete it, or give another path."
        )
    return jax.tree.unflatten(
        structure,
        [
            arrays[name].view(leaf.dtype)
            for name, leaf in zip(names, leaves, strict=True)
        ],
    )


def _stored(dtype: Any) -> np.dtype:
    """NumPy stores dtypes that it does not know, such as bfloat16, as raw bytes."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind in "biufc" else np.dtype(f"V{dtype.itemsize}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        arrays = read_arrays(path)
        asked = json.loads(str(arrays.pop("asked")))
        if not isinstance(asked, dict):
            raise ValueError("it does not say what training it belongs to")
        return asked, arrays
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error}). Delete it to start again."
        ) from error
