"""What is refused at the door: networks that cannot be matched by their weights."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

from combinability.symmetry._symmetry import Symmetry


def checked_blocks(symmetry: Symmetry, variables: PyTree, name: str) -> list[Array]:
    """The blocks of a network, in float32 or float64.

    Args:
        symmetry: whose blocks.
        variables: the network.
        name: what the argument is called, for the errors.

    Raises:
        ValueError: if leaves differ from the symmetry's, are not finite, or none of
            them carries a group.
        TypeError: if a leaf that carries a group does not hold real numbers.
    """
    if not symmetry.groups:
        raise ValueError(
            "symmetry: expected at least one group; this network has no units that may "
            "be permuted, so that there is nothing to match"
        )
    leaves = symmetry.check(variables, name)
    for number in sorted({block.leaf for block in symmetry.blocks}):
        _check_leaf(name, symmetry.leaves[number].path, leaves[number])
    return [
        part if part.dtype in ("float32", "float64") else part.astype(jnp.float32)
        for part in symmetry.split(variables)
    ]


def _check_leaf(name: str, path: str, leaf: Any) -> None:
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected real floating-point numbers, got {dtype.name} at "
            f"{path!r}; match the real and imaginary parts of complex parameters as "
            "leaves of their own"
        )
    if isinstance(leaf, Tracer):
        return
    bad = np.size(leaf) - _count_finite(np.asarray(leaf))
    if bad:
        raise ValueError(
            f"{name}: expected finite parameters, got {bad} that are NaN or infinite "
            f"at {path!r}; take an earlier checkpoint of this network"
        )


def _count_finite(array: np.ndarray) -> int:
    if array.dtype in (np.float32, np.float64):
        # The norm is finite if all are; one pass, where looking at each takes three.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.vdot(array, array)):
                return array.size
    return int(np.isfinite(array).sum())
