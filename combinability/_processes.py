"""How several processes share the samples of an evaluation."""

import os
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from combinability.symmetry._symmetry import path_name


def check_local(name: str, model: PyTree) -> None:
    """Refuses a network that this process does not hold whole.

    Raises:
        ValueError: if an array spans several processes.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            raise ValueError(
                f"{name}: expected arrays of this process, got one that spans several "
                f"processes at {path_name(path)!r}; gather the network by "
                "multihost_utils.process_allgather(…, tiled=True)"
            )


def own_part(samples: int) -> range:
    """The samples of this process."""
    each = _share(samples)
    first = min(samples, each * jax.process_index())
    return range(first, min(samples, first + each))


def own_file(checkpoint: str | os.PathLike[str]) -> Path:
    """The checkpoint of this process, named by its number where there are several."""
    path = Path(checkpoint)
    if jax.process_count() == 1:
        return path
    return path.with_name(f"{path.name}.{jax.process_index()}")


def gather(values: list[np.ndarray], samples: int) -> list[np.ndarray]:
    """The samples of all processes, from those of this one."""
    if jax.process_count() == 1:
        return values
    each = _share(samples)
    padded = [np.zeros((each, *value.shape[1:]), value.dtype) for value in values]
    for whole, value in zip(padded, values, strict=True):
        whole[: len(value)] = value
    found = multihost_utils.process_allgather(padded)
    return [np.concatenate(np.asarray(whole))[:samples] for whole in found]


def _share(samples: int) -> int:
    """The most samples that a process has."""
    return -(-samples // jax.process_count())
