"""The layer that is orthogonal at every step of its training."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching.direct import Fit
from stitching.direct._fit import times
from stitching.layers._stitching_layer import StitchingLayer


class Orthogonal(StitchingLayer):
    r"""A map with orthonormal columns (p ≥ q) or rows (p ≤ q), however it is trained.

    It starts at a fixed W₀, the polar factor of the initial weight (a random one, if
    that is Gaussian, is uniformly distributed), and turns it by the Cayley transform of
    a trained matrix G, of size n = max(p, q), that starts at zero:

    .. math::

        C = (1 - \tfrac12 A)^{-1} (1 + \tfrac12 A), \quad A = \tfrac12 (G - G^\top),
        \qquad W = C W_0 \text{ or } W_0 C

    C is a rotation for every G, and 1 + A to first order, so a learning rate means what
    it means for entries of the weight. Rotations by 180° are reached only in the limit,
    measured from W₀; reflections stay reflections for p = q.

    Attributes:
        scaled: whether the map is multiplied by a trained number, which starts as the
            mean singular value of the initial weight.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.Orthogonal(3)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 5)))
        >>> weight = layer.fit(variables).weight
        >>> bool(jnp.abs(weight.T @ weight - jnp.eye(3)).max() < 1e-5)
        True

    References:
        Lezcano-Casado, 2019, arXiv 1909.09501 (turning a fixed map).
    """

    scaled: bool = False

    rows = ("fixed", "base")

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)
        base = self.variable("fixed", "base", lambda: _polar(initial)[0]).value
        size = max(initial.shape)
        zeros = jnp.zeros((size, size), base.dtype)
        generator = self.param("generator", lambda _: zeros)
        turn = cayley((generator - generator.T) / 2)
        weight = times(turn, base) if channels == size else times(base, turn)
        if self.scaled:
            weight = weight * self.param("scale", lambda _: _polar(initial)[1])
        return Fit(weight, self.bias())


def cayley(skew: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The rotation (1 − A/2)⁻¹ (1 + A/2) of a skew-symmetric A.

    Solving loses orthogonality as A grows, about a thousand roundings at entries of
    1000; one step of Newton and Schulz brings it back to a few.
    """
    one = jnp.eye(len(skew), dtype=skew.dtype)
    turn = jnp.linalg.solve(one - skew / 2, one + skew / 2)
    return times(turn, 3 * one - times(turn.T, turn)) / 2


def _polar(weight: Float[Array, "p q"]) -> tuple[Array, Array]:
    """The nearest semi-orthogonal matrix, and its best scale."""
    left, values, right = jnp.linalg.svd(weight, full_matrices=False)
    return times(left, right), values.mean()
