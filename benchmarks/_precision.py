"""How precisely networks are computed: an option of every experiment that trains."""

import contextlib
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from benchmarks._names import lookup

Precision = Literal["default", "high", "highest"]
Dtype = Literal["float32", "bfloat16"]

_PRECISIONS: dict[str, None] = dict.fromkeys(get_args(Precision))
# Float32 is what inputs and variables are: modules then ask for nothing.
_DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}


def check_precision(precision: str, dtype: str) -> None:
    """Refuses names that mean no precision or no dtype.

    Raises:
      ValueError: If one is unknown.
    """
    lookup(_PRECISIONS, precision, "precision")
    lookup(_DTYPES, dtype, "dtype")


def computed_in(precision: Precision) -> contextlib.AbstractContextManager[None]:
    """Float32 products that are traced within are computed in this precision."""
    return jax.default_matmul_precision(precision)


def module_dtype(dtype: Dtype) -> jnp.dtype | None:
    """The `dtype` of modules whose layers compute in it."""
    return _DTYPES[dtype]
