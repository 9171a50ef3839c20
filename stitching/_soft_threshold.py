"""The proximal map of the L1 norm."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array


def soft_threshold(array: Array, threshold: Any) -> Array:
    r"""Each entry moved towards zero: :math:`\operatorname{sign}(a) (|a| - t)_+`.

    Entries not larger than the threshold become exactly zero.
    """
    return array - jnp.clip(array, -threshold, threshold)
