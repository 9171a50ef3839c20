"""What all stitching layers have in common, and where they start."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, constant, lecun_normal, zeros
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from stitching._checks import one_array
from stitching.direct._fit import Fit


class StitchingLayer(nn.Module):
    """An affine map of channels whose weight stays within a class.

    Works on the last axis of any activation: dense, maps (a 1×1 convolution) or tokens.
    A subclass says in `map` what it trains. What trains is in the collection "params";
    what never changes, such as a mask, is in "fixed": differentiate the former alone.
    Parameters are float32, or float64 in JAX's 64-bit mode; products are in full
    precision on accelerators too.

    Attributes:
        features: number of output channels, q.
        kernel_init: makes a weight (p, q), of which the layer starts at the nearest
            member of its class: `identity`, `random_permutation`, any of Flax's.
        bias_init: makes the bias (q,).
        convert: applied to the activation first, where shapes differ, for instance
            `functools.partial(resize, size=(8, 8), method="linear")`.

    Raises:
        TypeError: when called, for several activations.
        ValueError: when called, if features is not positive, or the activation has
            other channels than the variables.
    """

    features: int
    kernel_init: Initializer = lecun_normal()
    bias_init: Initializer = zeros
    convert: Callable[[Any], Any] | None = None

    # The array that has one row per input channel: its collection and name.
    rows: ClassVar[tuple[str, str]] = ("params", "kernel")

    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        raise NotImplementedError

    def __call__(self, activation: Float[ArrayLike, "*n p"]) -> Float[Array, "*n q"]:
        """The map of an activation, channels last."""
        activation = self.converted(activation)
        return self.map(activation.shape[-1])(activation)

    def fit(self, variables: Mapping[str, Any]) -> Fit:
        """The map with these variables, as an array, to look at, store or measure.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from stitching import layers
            >>> layer = layers.Affine(2, kernel_init=layers.identity)
            >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 3)))
            >>> layer.fit(variables).weight.tolist()
            [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
        """
        collection, name = self.rows
        channels = variables[collection][name].shape[0]
        found: Any = self.apply(variables, channels, method="map")
        return found

    def converted(self, activation: ArrayLike) -> Array:
        """The activation in the shape in which it is mapped."""
        if self.convert is not None:
            activation = self.convert(activation)
        one_array("activation", activation)
        activation = jnp.asarray(activation)
        if activation.ndim < 1:
            raise ValueError("activation: expected channels as the last axis, got ()")
        return activation

    def initial(self, channels: int) -> Float[Array, "p q"]:
        """The weight to start near to; zeros, for its shape, if that has been done."""
        if self.features < 1:
            raise ValueError(f"features: expected at least 1, got {self.features}")
        shape, dtype = (channels, self.features), jnp.result_type(float)
        if self.is_initializing():
            return jnp.asarray(
                self.kernel_init(self.make_rng("params"), shape, dtype), dtype
            )
        stored = self.get_variable(*self.rows)
        if stored is not None and stored.shape[0] != channels:
            raise ValueError(
                f"activation: expected {stored.shape[0]} channels as the variables "
                f"have, got {channels}"
            )
        return jnp.zeros(shape, dtype)

    def bias(self) -> Float[Array, " q"]:
        """What is added; every layer trains it."""
        return self.param(
            "bias", self.bias_init, (self.features,), jnp.result_type(float)
        )


def check_layer(layer: Any) -> None:
    """Raise a TypeError unless this is a stitching layer."""
    if not isinstance(layer, StitchingLayer):
        raise TypeError(
            f"layer: expected a stitching layer, got {type(layer).__name__}"
        )


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
    rows = jnp.eye(size, dtype=dtype)[jax.random.permutation(key, size)]
    return rows[: shape[0], : shape[1]]


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
    check_layer(layer)
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
