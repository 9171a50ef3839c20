"""Whether arrays hold numbers only, told by one program for all of them."""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array


def finite(*arrays: Array) -> list[bool]:
    """Which arrays have no NaN and no infinity, or are traced and cannot tell."""
    known = [None if isinstance(array, Tracer) else array for array in arrays]
    # One that is known may meet others that are traced.
    with jax.ensure_compile_time_eval():
        return [found is None or bool(found) for found in _finite(known)]


@jax.jit
def _finite(arrays: list[Array | None]) -> list[Array | None]:
    return jax.tree.map(lambda array: jnp.isfinite(array).all(), arrays)
