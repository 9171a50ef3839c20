"""The layer of a bounded rank."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching.direct import Fit
from stitching.direct._fit import times
from stitching.layers._stitching_layer import StitchingLayer


class LowRank(StitchingLayer, kw_only=True):
    r"""An affine map whose weight has at most a given rank: a product of two factors.

    .. math::

        x \mapsto (x L) R + b, \qquad L: (p, r), \quad R: (r, q)

    It starts at the truncated singular value decomposition of the initial weight, with
    the singular values shared between the factors.

    Attributes:
        rank: r, from 1 to min(p, q).

    Raises:
        ValueError: when called, if the rank is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.LowRank(16, rank=3)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 8)))
        >>> int(jnp.linalg.matrix_rank(layer.fit(variables).weight))
        3

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """

    rank: int

    rows = ("params", "left")

    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        left, right, bias = self.factors(channels)
        return Fit(times(left, right), bias)

    def __call__(self, activation: Float[ArrayLike, "*n p"]) -> Float[Array, "*n q"]:
        """The map of an activation, channels last, by one factor after the other."""
        activation = self.converted(activation)
        left, right, bias = self.factors(activation.shape[-1])
        return times(times(activation, left), right) + bias

    @nn.compact
    def factors(self, channels: int) -> tuple[Array, Array, Array]:
        """L, R and the bias."""
        if not 1 <= self.rank <= min(channels, self.features):
            raise ValueError(
                f"rank: expected 1 to {min(channels, self.features)} for a map of "
                f"{channels} to {self.features} channels, got {self.rank}"
            )
        initial = self.initial(channels)
        left = self.param("left", lambda _: self._truncated(initial)[0])
        right = self.param("right", lambda _: self._truncated(initial)[1])
        return left, right, self.bias()

    def _truncated(self, weight: Array) -> tuple[Array, Array]:
        left, values, right = jnp.linalg.svd(weight, full_matrices=False)
        roots = jnp.sqrt(values[: self.rank])
        return left[:, : self.rank] * roots, roots[:, None] * right[: self.rank]
