"""Input validation that several parts of the library share."""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


def one_array(name: str, array: Any) -> None:
    """Raise a TypeError for None and containers of arrays; numbers may be a list."""
    several = isinstance(array, Mapping)
    if isinstance(array, tuple | list):
        several = any(np.ndim(leaf) for leaf in jax.tree.leaves(array))
    if array is None or several:
        raise TypeError(
            f"{name}: expected one array, got {type(array).__name__}; where there are "
            "several arrays, pick one"
        )


def real(name: str, array: Any) -> Array:
    """Return an array of at least float32; raise a TypeError if it is not real."""
    one_array(name, array)
    if isinstance(array, tuple | list):
        array = jnp.asarray(array)
    known = isinstance(array, jax.Array | np.ndarray | np.generic)
    dtype = array.dtype if known else np.asarray(array).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(
            f"{name}: expected real numbers, got dtype {dtype}; take the real part or "
            "another view of it first"
        )
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def nonnegative(name: str, value: Any, axes: int | None = 0) -> Array:
    """Return real numbers; raise unless they are finite and at least 0, or traced."""
    array = real(name, value)
    if axes is not None and array.ndim != axes:
        expected = "one number" if axes == 0 else "shape (k,)"
        raise ValueError(f"{name}: expected {expected}, got shape {array.shape}")
    if not isinstance(array, Tracer):
        known = np.asarray(array)
        wrong = known[~(np.isfinite(known) & (known >= 0))]
        if wrong.size:
            raise ValueError(
                f"{name}: expected finite numbers, at least 0, got {wrong.flat[0]}"
            )
    return array


def positive(name: str, value: Any) -> None:
    """Raise a ValueError unless a number is above 0 and finite, or traced."""
    with eager(value):
        if not isinstance(value, Tracer) and not 0 < value < np.inf:
            raise ValueError(f"{name}: expected a positive number, got {value}")


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise a ValueError unless the value is one of the allowed ones."""
    if value not in allowed:
        raise ValueError(
            f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}"
        )


def eager(*trees: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which what is known is computed, inside `jit` too.

    Without it, whatever is computed inside `jit` is traced, even from arrays that a
    function only closes over.
    """
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))
    return contextlib.nullcontext() if traced else jax.ensure_compile_time_eval()


def sample_weights(weights: Any, samples: tuple[int, ...]) -> Array:
    """Return weights of all samples from those of the first sample axes, or raise."""
    with eager(weights):
        return _sample_weights(weights, samples)


def _sample_weights(weights: Any, samples: tuple[int, ...]) -> Array:
    if jnp.result_type(getattr(weights, "dtype", float)) == jnp.bool_:
        weights = jnp.asarray(weights, jnp.float32)
    weights = real("weights", weights)
    axes = weights.ndim
    if axes == 0 or weights.shape != samples[:axes]:
        raise ValueError(
            f"weights: expected one per sample, of shape {samples} or that of its "
            f"first axes, got {weights.shape}"
        )
    weights = nonnegative("weights", weights, axes=None)
    return jnp.broadcast_to(with_axes(weights, len(samples)), samples)


def with_axes(weights: Array, axes: int) -> Array:
    """Return weights with trailing axes of length 1."""
    return weights.reshape(weights.shape + (1,) * (axes - weights.ndim))


def without_masked(values: Array, weights: Array | None) -> Array:
    """Return values that are 0 where they have no weight."""
    if weights is None:
        return values
    return jnp.where(with_axes(weights, values.ndim) > 0, values, 0)


def finite(*arrays: Array) -> list[bool]:
    """Return which arrays are traced, or all finite; by one program."""
    known = [None if isinstance(array, Tracer) else array for array in arrays]
    # One that is known may meet others that are traced.
    with jax.ensure_compile_time_eval():
        return [found is None or bool(found) for found in _finite(known)]


@jax.jit
def _finite(arrays: list[Array | None]) -> list[Array | None]:
    return jax.tree.map(lambda array: jnp.isfinite(array).all(), arrays)
