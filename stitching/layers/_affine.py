"""The affine layer, and the one that a mask holds at zero."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer

from stitching.direct import Fit
from stitching.layers._stitching_layer import StitchingLayer


class Affine(StitchingLayer):
    """Any affine map of channels: a 1×1 convolution with a bias.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.Affine(16)
        >>> maps = jnp.ones((2, 8, 8, 32))
        >>> variables = layer.init(jax.random.key(0), maps)
        >>> layer.apply(variables, maps).shape, variables["params"]["kernel"].shape
        ((2, 8, 8, 16), (32, 16))

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)
        return Fit(self.param("kernel", lambda _: initial), self.bias())


class MaskedAffine(StitchingLayer):
    """An affine map whose weight is exactly zero outside a fixed mask.

    The mask is the array "mask" of the collection "fixed", so that it can be changed
    and vmapped.

    Attributes:
        mask_init: makes the mask (p, q), for instance `jax.nn.initializers.constant(m)`
            of an array of zeros and ones. By default the mask is where the initial
            weight is not zero: with `from_fit` of a sparse fit, its support.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> mask = jax.nn.initializers.constant(jnp.array([[1, 0], [1, 1]]))
        >>> layer = layers.MaskedAffine(2, mask_init=mask)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 2)))
        >>> (layer.fit(variables).weight != 0).tolist()
        [[True, False], [True, True]]

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """

    mask_init: Initializer | None = None

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)

        def mask():
            if self.mask_init is None:
                return initial != 0
            key = self.make_rng("params")
            return self.mask_init(key, initial.shape, initial.dtype) != 0

        allowed = self.variable("fixed", "mask", mask).value
        kernel = self.param("kernel", lambda _: jnp.where(allowed, initial, 0))
        return Fit(jnp.where(allowed, kernel, 0), self.bias())
