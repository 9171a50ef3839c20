"""Between activations of different shapes: maps of other sizes, and tokens."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._checks import one_array, one_of

Size = tuple[int, int]


def resize(
    activation: Float[ArrayLike, "*n h w c"], size: Size, *, method: str
) -> Float[Array, "*n h2 w2 c"]:
    """Return maps at another spatial size.

    Smaller maps are smoothed first, except by "nearest".

    Args:
        activation: (..., height, width, channels).
        size: the new (height, width).
        method: as in `jax.image.resize`: "nearest", "linear", "cubic", …

    Returns:
        Shape (..., *size, channels).

    Raises:
        ValueError: if the activation is not a map, the size is not positive, or the
            method is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import layers
        >>> maps = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> layers.resize(maps, (1, 1), method="linear").tolist()
        [[[[1.5]]]]
    """
    activation = _with_axes(activation, 3, "(..., height, width, channels)")
    _check_size(size)
    try:
        known_method = jax.image.ResizeMethod.from_string(method)
    except (AttributeError, ValueError) as error:
        known = ", ".join(each.name.lower() for each in jax.image.ResizeMethod)
        raise ValueError(f"method: expected one of {known}, got {method!r}") from error
    shape = (*activation.shape[:-3], *size, activation.shape[-1])
    return jax.image.resize(activation, shape, known_method)


def map_to_tokens(
    activation: Float[ArrayLike, "*n h w c"], *, class_token: str
) -> Float[Array, "*n t c"]:
    """Return maps as sequences of their positions, row by row.

    Args:
        activation: (..., height, width, channels).
        class_token: "none"; or one in front, "mean" of all positions or "zeros".

    Returns:
        Shape (..., height · width, channels), one token longer with a class token.

    Raises:
        ValueError: if the activation is not a map, or class_token is not one of these.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import layers
        >>> maps = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> layers.map_to_tokens(maps, class_token="mean")[0, :, 0].tolist()
        [1.5, 0.0, 1.0, 2.0, 3.0]
    """
    one_of("class_token", class_token, ("none", "mean", "zeros"))
    activation = _with_axes(activation, 3, "(..., height, width, channels)")
    shape = activation.shape
    tokens = activation.reshape(*shape[:-3], shape[-3] * shape[-2], shape[-1])
    if class_token == "none":
        return tokens
    mean = tokens.mean(axis=-2, keepdims=True)
    first = mean if class_token == "mean" else jnp.zeros_like(mean)
    return jnp.concatenate([first, tokens], axis=-2)


def tokens_to_map(
    activation: Float[ArrayLike, "*n t c"], size: Size, *, class_token: str
) -> Float[Array, "*n h w c"]:
    """Return sequences of the positions of a map, row by row, as maps.

    Args:
        activation: (..., tokens, channels).
        size: the (height, width) of the map.
        class_token: "none"; or "drop": the first token is one, and left out.

    Returns:
        Shape (..., *size, channels).

    Raises:
        ValueError: if the number of tokens does not fit the size, or class_token is not
            one of these.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import layers
        >>> tokens = jnp.ones((2, 17, 8))
        >>> layers.tokens_to_map(tokens, (4, 4), class_token="drop").shape
        (2, 4, 4, 8)
    """
    one_of("class_token", class_token, ("none", "drop"))
    activation = _with_axes(activation, 2, "(..., tokens, channels)")
    _check_size(size)
    extra = class_token == "drop"
    *leading, tokens, channels = activation.shape
    if tokens != math.prod(size) + extra:
        raise ValueError(
            f"activation: expected {math.prod(size) + extra} tokens for a map of size "
            f"{size} and class_token={class_token!r}, got {tokens}"
        )
    return activation[..., extra:, :].reshape(*leading, *size, channels)


def resize_tokens(
    activation: Float[ArrayLike, "*n t c"],
    old: Size,
    new: Size,
    *,
    method: str,
    class_token: str,
) -> Float[Array, "*n t2 c"]:
    """Return sequences of the positions of a map, for a map of another size.

    Args:
        activation: (..., tokens, channels).
        old, new: the (height, width) that the positions have, and should have.
        method: as in `resize`.
        class_token: "none"; or "keep": the first token is one, and stays as it is.

    Returns:
        Shape (..., tokens, channels).

    Raises:
        ValueError: if the number of tokens does not fit the old size, a size is not
            positive, or method or class_token is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import layers
        >>> options = {"method": "linear", "class_token": "keep"}
        >>> layers.resize_tokens(jnp.ones((2, 17, 8)), (4, 4), (2, 2), **options).shape
        (2, 5, 8)
    """
    one_of("class_token", class_token, ("none", "keep"))
    kept = class_token == "keep"
    activation = _with_axes(activation, 2, "(..., tokens, channels)")
    maps = tokens_to_map(activation, old, class_token="drop" if kept else "none")
    tokens = map_to_tokens(resize(maps, new, method=method), class_token="none")
    first = activation[..., : int(kept), :].astype(tokens.dtype)
    return jnp.concatenate([first, tokens], axis=-2)


def _with_axes(activation: ArrayLike, axes: int, shape: str) -> Array:
    one_array("activation", activation)
    activation = jnp.asarray(activation)
    if activation.ndim < axes:
        raise ValueError(f"activation: expected shape {shape}, got {activation.shape}")
    return activation


def _check_size(size: Size) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: expected positive (height, width), got {size}")
