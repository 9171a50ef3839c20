"""Logits and labels, checked at the door."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from stitching._moments import real

# Each leading index is a sample.
Logits = Float[ArrayLike, "*samples classes"]
Labels = Int[ArrayLike, "*samples"]


def checked(name: str, logits: Any) -> Array:
    """Logits, at least in float32.

    Raises:
        TypeError: if they are complex or not numeric.
        ValueError: if there is no sample axis, no sample or no class.
    """
    logits = real(name, logits)
    if logits.ndim < 2 or logits.size == 0:
        raise ValueError(
            f"{name}: expected logits of shape (samples, classes), neither empty, got "
            f"{logits.shape}"
        )
    return logits


def pair(stitched: Any, reference: Any) -> tuple[Array, Array]:
    """Logits of two networks on the same samples; raises as `checked` does."""
    stitched, reference = (
        checked("stitched", stitched),
        checked("reference", reference),
    )
    if stitched.shape != reference.shape:
        raise ValueError(
            f"stitched and reference: expected logits of the same samples and classes, "
            f"got shapes {stitched.shape} and {reference.shape}"
        )
    return stitched, reference


def fitting(labels: Any, logits: Array) -> Array:
    """Labels of the samples of some logits.

    Raises:
        TypeError: if they are not integers.
        ValueError: if there are more or fewer than samples, or one that is not traced
            is no class.
    """
    labels, classes = jnp.asarray(labels), logits.shape[-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels: expected integers, got {labels.dtype}; from one-hot labels take "
            f"labels.argmax(-1)"
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels: expected shape {logits.shape[:-1]}, that of the logits without "
            f"classes, got {labels.shape}"
        )
    if not isinstance(labels, Tracer):
        known = np.asarray(labels)
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels: expected classes from 0 to {classes - 1}, got {low} to {high}"
            )
    return labels


def positive(name: str, value: Any) -> None:
    """Raises a ValueError unless a number is above 0 and finite, or traced."""
    if not isinstance(value, Tracer) and not 0 < value < np.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")


def predicted(logits: Array) -> Int[Array, "*samples"]:
    """The class of the highest logit, the first of equal ones; −1 where one is NaN."""
    return jnp.where(jnp.isnan(logits).any(axis=-1), -1, logits.argmax(axis=-1))
