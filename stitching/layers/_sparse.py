"""The affine layer that trains with an L1 penalty."""

import optax

from stitching.layers._affine import Affine
from stitching.layers._proximal import Rate, proximal_l1


class Sparse(Affine, kw_only=True):
    r"""An affine map trained with an L1 penalty on its weight, to exact zeros.

    .. math::

        \min_{W, b} \text{loss}(W, b) + \lambda \sum_{ij} |W_{ij}|

    The penalty is not part of the loss (its gradient would give small numbers instead
    of zeros) but a proximal step behind the optimizer: chain `proximal` behind it.

    Attributes:
        penalty: λ ≥ 0, in units of the loss over those of the weight.

    Raises:
        ValueError: by `proximal`, if the penalty is negative.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from stitching import layers
        >>> layer = layers.Sparse(2, penalty=10.0)
        >>> optimizer = optax.chain(optax.sgd(0.1), layer.proximal(0.1))
        >>> params = layer.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        >>> gradients = jax.tree.map(jnp.zeros_like, params)
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].any().item()
        False

    References:
        Csiszárik et al., 2021, arXiv 2110.14633 (L1 by subgradients there).
    """

    penalty: float

    def proximal(self, learning_rate: Rate) -> optax.GradientTransformation:
        """The proximal step of the penalty; as `proximal_l1`, on the kernel."""
        return proximal_l1(self.penalty, learning_rate)
