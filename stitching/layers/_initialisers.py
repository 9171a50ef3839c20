"""Where a stitching layer starts."""

from typing import Any

import jax
import jax.numpy as jnp
from flax.linen.initializers import constant
from jaxtyping import Array, Float, PRNGKeyArray

from stitching.direct import Fit
from stitching.layers._stitching_layer import StitchingLayer


def identity(
    key: PRNGKeyArray, shape: tuple[int, int], dtype: Any = float
) -> Float[Array, "p q"]:
    """Initialise a map of channel i to channel i, as far as both exist.

    Example:
        >>> import jax
        >>> from stitching import layers
        >>> layers.identity(jax.random.key(0), (2, 3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    Raises:
        ValueError: if the shape is not that of a matrix.
    """
    del key
    _check_shape(shape)
    return jnp.eye(*shape, dtype=dtype)


def random_permutation(
    key: PRNGKeyArray, shape: tuple[int, int], dtype: Any = float
) -> Float[Array, "p q"]:
    """Initialise a uniformly random one-to-one matching of channels.

    For p ≠ q, of all of the fewer channels with a random choice of the others.

    Example:
        >>> import jax
        >>> from stitching import layers
        >>> layers.random_permutation(jax.random.key(0), (3, 2)).sum(axis=0).tolist()
        [1.0, 1.0]

    Raises:
        ValueError: if the shape is not that of a matrix.
    """
    _check_shape(shape)
    size = max(shape)
    return jnp.eye(size, dtype=dtype)[jax.random.permutation(key, size)][
        : shape[0], : shape[1]
    ]


def _check_shape(shape: tuple[int, int]) -> None:
    if len(shape) != 2:
        raise ValueError(f"shape: expected (in, out), got {tuple(shape)}")


def from_fit(layer: StitchingLayer, fit: Fit) -> dict[str, Any]:
    """Return the variables of a layer that starts at a fit.

    If the fit is in the layer's class, the layer computes it: a least squares fit in
    `Affine`, an orthogonal one in `Orthogonal` (`scaled` if it is), one of reduced rank
    in `LowRank`, a permutation in `Matching`, the support of a sparse one in
    `MaskedAffine`. Else the weight is the nearest in the class, and the bias that of
    the fit, which belongs to another weight: fit within the class first.

    Args:
        layer: any stitching layer.
        fit: any direct fit with as many output channels; may be traced or vmapped.

    Returns:
        Its variables, as `layer.init` gives them.

    Raises:
        TypeError: if the layer is not a stitching layer.
        ValueError: if the fit has other output channels than the layer, or is a stack.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> from stitching import layers
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> fit = stitching.orthogonal(stitching.moments(x, x[:, ::-1]))
        >>> layer = layers.Orthogonal(2)
        >>> variables = layers.from_fit(layer, fit)
        >>> bool(jnp.allclose(layer.apply(variables, x), fit(x), atol=1e-6))
        True
    """
    if not isinstance(layer, StitchingLayer):
        raise TypeError(
            f"layer: expected a stitching layer, got {type(layer).__name__}"
        )
    if fit.weight.ndim != 2 or fit.weight.shape[1] != layer.features:
        raise ValueError(
            f"fit: expected a weight of shape (in, {layer.features}) as the layer has "
            f"features, got {fit.weight.shape}"
        )
    started = layer.clone(
        kernel_init=constant(fit.weight), bias_init=constant(fit.bias)
    )
    key = jax.random.key(0)  # nothing is random
    return dict(started.init(key, fit.weight.shape[0], method="map"))
