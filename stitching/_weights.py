"""Sample weights."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from stitching._moments import real


def sample_weights(weights: Any, samples: tuple[int, ...]) -> Array:
    """Weights for all samples, at least 0, from those of the first sample axes.

    Raises:
        TypeError: if they are no array of real numbers or booleans.
        ValueError: if the shape does not fit, or one is negative or not finite.
    """
    if jnp.result_type(getattr(weights, "dtype", float)) == jnp.bool_:
        weights = jnp.asarray(weights, jnp.float32)
    weights = real("weights", weights)
    axes = weights.ndim
    if axes == 0 or weights.shape != samples[:axes]:
        raise ValueError(
            f"weights: expected one per sample, of shape {samples} or that of its "
            f"first axes, got {weights.shape}"
        )
    if not isinstance(weights, Tracer) and not (
        np.isfinite(weights).all() and np.greater_equal(weights, 0).all()
    ):
        raise ValueError("weights: expected finite numbers, at least 0")
    weights = weights.reshape(weights.shape + (1,) * (len(samples) - axes))
    return jnp.broadcast_to(weights, samples)
