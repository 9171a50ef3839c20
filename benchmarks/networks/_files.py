"""Trained networks on disk: whole or not at all."""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.runs import RunError, write_atomically
from combinability._arrays_file import read_arrays


def save_networks(path: Path, networks: list[Any]) -> None:
    """Writes the variables of networks of one structure, whole or not at all."""
    arrays = {
        f"{number}/{place}": np.asarray(leaf)
        for number, variables in enumerate(networks)
        for place, leaf in enumerate(jax.tree.leaves(variables))
    }
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomically(path, file.getvalue())


def load_networks(path: Path, like: Any, count: int) -> list[Any]:
    """Reads what `save_networks` wrote.

    Args:
      path: The file.
      like: Variables of the structure and shapes that are expected.
      count: How many networks.

    Returns:
      The variables of each network.

    Raises:
      RunError: If the file is missing, damaged or of other networks.
    """
    leaves, structure = jax.tree.flatten(like)
    try:
        stored = read_arrays(path)
        found = [
            [stored[f"{number}/{place}"] for place in range(len(leaves))]
            for number in range(count)
        ]
    except (ValueError, KeyError) as error:
        raise RunError(
            f"cannot read the networks in {path}: {error}; delete this run folder and "
            "give the command again"
        ) from error
    for network_leaves in found:
        for leaf, expected in zip(network_leaves, leaves, strict=True):
            found_here = (leaf.shape, leaf.dtype)
            if found_here != (expected.shape, expected.dtype):
                raise RunError(
                    f"{path} holds an array of shape {leaf.shape} and dtype "
                    f"{leaf.dtype} where the model has {expected.shape} and "
                    f"{expected.dtype}; delete this run folder and start again"
                )
    return [jax.tree.unflatten(structure, arrays) for arrays in found]
