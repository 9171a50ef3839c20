"""How precisely networks are computed: an option of every experiment that trains."""

import contextlib
from typing import Any, Literal, get_args

from benchmarks._names import check_name

Precision = Literal["default", "high", "highest"]
Dtype = Literal["float32", "bfloat16"]


def check_precision(precision: str, dtype: str) -> None:
    """Raise if a name is no precision or no dtype."""
    check_name("precision", precision, get_args(Precision))
    check_name("dtype", dtype, get_args(Dtype))


def computed_in(precision: Precision) -> contextlib.AbstractContextManager[None]:
    """Compute float32 products that are traced within in this precision."""
    import jax  # help and checks of options do without

    return jax.default_matmul_precision(precision)


def module_dtype(dtype: Dtype) -> Any:
    """Return the `dtype` of modules whose layers compute in it."""
    import jax.numpy as jnp

    # Float32 is what inputs and variables are: modules then ask for nothing.
    return jnp.bfloat16 if dtype == "bfloat16" else None
