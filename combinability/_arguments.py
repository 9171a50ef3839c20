"""What is refused at the door by everything that compares networks."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability._combine import check_like, is_combined
from combinability._permutation import Permutations
from combinability.symmetry._symmetry import Permutation, Symmetry, path_name


def check_networks(networks: dict[str, PyTree]) -> list[PyTree]:
    """Networks, by the names of their arguments, as trees of JAX arrays.

    Raises:
        ValueError: if they differ in structure, shapes or dtypes, or are not finite.
    """
    first, like = next(iter(networks.items()))
    for name, network in networks.items():
        check_like(network, like, name, first)
        check_finite(name, network)
    return [jax.tree.map(jnp.asarray, network) for network in networks.values()]


def check_finite(name: str, network: PyTree) -> None:
    """Refuses a network whose parameters are not numbers.

    Raises:
        ValueError: if one is NaN or infinite.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(network)[0]:
        if is_combined(leaf) and not np.isfinite(leaf).all():
            raise ValueError(
                f"{name}: expected finite parameters, got NaN or infinity at "
                f"{path_name(path)!r}"
            )


def check_bijections(
    symmetry: Symmetry, permutation: Permutation, name: str
) -> Permutations:
    """A permutation as 32-bit index arrays.

    Raises:
        TypeError: if it is no mapping.
        ValueError: if a group is unknown, an index array has the wrong shape or dtype,
            or does not name each unit once.
    """
    symmetry.check_permutation(permutation, name)
    return {group: jnp.asarray(i, jnp.int32) for group, i in permutation.items()}


def counter(
    progress: Callable[[int, int], None] | None, total: int
) -> Callable[[], None]:
    """Calls `progress(done, total)` with one more done each time."""
    done = itertools.count(1)
    return lambda: progress(next(done), total) if progress else None
