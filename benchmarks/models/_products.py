"""A convolution to few positions, as products of matrices."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def convolve_by_products(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str,
    *,
    feature_group_count: int = 1,
    lhs_dilation: Sequence[int] = (1, 1),
    rhs_dilation: Sequence[int] = (1, 1),
    dimension_numbers: Any = None,
    precision: Any = None,
) -> jax.Array:
    """Convolve without padding or strides, by a product for each weight of a filter.

    For `flax.linen.Conv(conv_general_dilated=...)`. Where there are fewer positions
    than weights of a filter, XLA exchanges the operands of the gradient's convolution;
    on CPUs it has no fast way for that, and this takes a fifth of the time.

    Args:
      inputs: (n, height, width, channels).
      kernel: (height, width, channels, features).
      strides: (1, 1).
      padding: "VALID".
      feature_group_count: 1.
      lhs_dilation: (1, 1).
      rhs_dilation: (1, 1).
      dimension_numbers: Not looked at; Flax's layers have the axes named above.
      precision: Of the products.

    Returns:
      (n, height, width, features), smaller than the inputs by the kernel less one.

    Raises:
      ValueError: If strides, padding, groups or dilations are others.
    """
    asked = (*strides, *lhs_dilation, *rhs_dilation, feature_group_count, padding)
    if asked != (1, 1, 1, 1, 1, 1, 1, "VALID"):
        raise ValueError(
            f"strides, dilations, groups and padding are {asked}: expected ones and "
            "'VALID'"
        )
    rows, columns = kernel.shape[:2]
    height, width = inputs.shape[1] - rows + 1, inputs.shape[2] - columns + 1
    products = [
        jnp.matmul(
            inputs[:, i : i + height, j : j + width], kernel[i, j], precision=precision
        )
        for i in range(rows)
        for j in range(columns)
    ]
    return functools.reduce(jnp.add, products)
