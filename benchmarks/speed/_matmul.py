"""What a large matrix product reaches: the ceiling of every network's evaluation."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Sides are doubled until a product takes so long that calling it counts for nothing.
_SMALLEST, _LARGEST, _SECONDS = 512, 16_384, 0.02


class Matmul:
    """A product of two square float32 matrices on each device, all at once.

    In the default precision, as networks are evaluated in.

    Attributes:
        size: rows and columns.
        flops: operations of a call, on all devices together.
    """

    def __init__(self):
        self.size = _SMALLEST
        self._prepare()
        while self._seconds() < _SECONDS and self.size < _LARGEST:
            self.size *= 2
            self._prepare()

    def __call__(self) -> jax.Array:
        return self._product(self._matrices, self._matrices)

    @property
    def flops(self) -> float:
        """A product and a sum for each row, column and term."""
        return 2.0 * self.size**3 * len(self._matrices)

    def _prepare(self) -> None:
        devices = np.array(jax.local_devices())
        each = NamedSharding(Mesh(devices, ("device",)), PartitionSpec("device"))
        shape = (len(devices), self.size, self.size)
        values = np.random.default_rng(0).normal(size=shape[1:]).astype(np.float32)
        self._matrices = jax.device_put(np.broadcast_to(values, shape), each)
        self._product = jax.jit(jnp.matmul)
        jax.block_until_ready(self())

    def _seconds(self) -> float:
        began = time.perf_counter()
        jax.block_until_ready(self())
        return time.perf_counter() - began


def flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of a function, as XLA counts them before it optimizes.

    Example:
        >>> import jax.numpy as jnp
        >>> flops(jnp.matmul, jnp.ones((3, 4)), jnp.ones((4, 5)))
        120.0
    """
    analysis: Any = jax.jit(function).lower(*arguments).cost_analysis()
    return float(analysis["flops"])
