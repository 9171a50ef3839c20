"""Laws of a coefficient, each as the function that makes it of uniform numbers."""

import functools
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from combinability._jaxpr import threefry_2x32

# Bins of equal probability that a quantile function is tabulated in.
_BINS = 2**14


class Law(Protocol):
    """How a coefficient depends on independent numbers u, uniform on [0, 1)."""

    @property
    def uniforms(self) -> int:
        """How many uniform numbers a coefficient needs."""
        ...

    def coefficients(self, u: Float[Array, "uniforms n"], index: Any) -> Array:
        """n coefficients of sample `index`; (networks, n) for several networks."""
        ...


class Uniform(NamedTuple):
    low: float
    high: float
    uniforms = 1

    def coefficients(self, u, index):
        # Never beyond the bounds by rounding.
        return jnp.clip(self.low + (self.high - self.low) * u[0], self.low, self.high)


class Bernoulli(NamedTuple):
    probability: float
    uniforms = 1

    def coefficients(self, u, index):
        return (u[0] < self.probability).astype(u.dtype)


class Beta(NamedTuple):
    a: float
    b: float
    uniforms = 1

    def coefficients(self, u, index):
        return _beta_quantile(self.a, self.b, u[0])


class Normal(NamedTuple):
    mean: float
    scale: float
    uniforms = 1

    def coefficients(self, u, index):
        centred = 2 * u[0] - 1 + jnp.finfo(u.dtype).eps  # inside (-1, 1)
        return self.mean + math.sqrt(2) * self.scale * jax.lax.erf_inv(centred)


class Spaced(NamedTuple):
    low: float
    high: float
    points: int
    uniforms = 0

    def coefficients(self, u, index):
        table = jnp.asarray(np.linspace(self.low, self.high, self.points), u.dtype)
        return jnp.broadcast_to(table[index], u.shape[1:])


class Dirichlet(NamedTuple):
    n: int
    concentration: float

    @property
    def uniforms(self) -> int:
        return self.n - 1

    def coefficients(self, u, index):
        # A stick of length 1 is broken; each piece is a beta-distributed part of what
        # the pieces before it have left.
        left, pieces = jnp.ones_like(u[0]), []
        for m in range(self.n - 1):
            others = self.concentration * (self.n - 1 - m)
            pieces.append(left * _beta_quantile(self.concentration, others, u[m]))
            left = left - pieces[-1]
        return jnp.stack([*pieces, left])


def uniform_numbers(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform on [0, 1), as `jax.random.uniform`, in less than half of its time.

    Each hash gives two words, and here both are used. Drawing may take longer than the
    networks that it is for.
    """
    if dtype != jnp.float32:
        return jax.random.uniform(key, shape, dtype)
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32)
    bits = threefry_2x32(jax.random.key_data(key), count).reshape(shape)
    # The words' upper 23 bits, as the fraction of a number in [1, 2).
    fraction = (bits >> 9) | np.float32(1).view(np.uint32)
    return jax.lax.bitcast_convert_type(fraction, jnp.float32) - 1


def _beta_quantile(a: float, b: float, u: Array) -> Array:
    """The beta law's quantile function, linear within each bin.

    The probability of every bin is exact. (Rejection sampling, as in
    `jax.random.beta`, takes much longer to compile and to run.)
    """
    table = jnp.asarray(_beta_table(a, b), u.dtype)
    place = u * _BINS
    left = place.astype(jnp.int32)
    low, high = table[left], table[left + 1]
    return low + (high - low) * (place - left)


@functools.lru_cache
def _beta_table(a: float, b: float) -> np.ndarray:
    return scipy.special.betaincinv(a, b, np.linspace(0, 1, _BINS + 1))
