"""Random keys, and those whose draws do not depend on how many are drawn together."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32
from jaxtyping import Key as TypedKey

Key = TypedKey[Array, ""] | UInt32[Array, "2"]

_IMPLEMENTATION = "threefry2x32"
# Of raw keys, which do not say what they are keys of.
_OF_SHAPE = {(2,): _IMPLEMENTATION, (4,): "rbg"}


def check_any_key(key: Any) -> TypedKey[Array, ""]:
    """A single PRNG key, of any implementation, as a typed one.

    Raises:
        TypeError: if it is not a key.
        ValueError: if there are several keys.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None:
        raise TypeError(f"key: expected a PRNG key as jax.random.key(0), got {key!r}")
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if dtype != jnp.uint32 or key.shape not in _OF_SHAPE:
            raise TypeError(
                "key: expected a PRNG key as jax.random.key(0), got an array of "
                f"{dtype} of shape {key.shape}"
            )
        return jax.random.wrap_key_data(key, impl=_OF_SHAPE[key.shape])
    if key.shape != ():
        raise ValueError(f"key: expected one key, got keys of shape {key.shape}")
    return key


def check_key(key: Any) -> TypedKey[Array, ""]:
    """A single PRNG key whose draws do not depend on the batch, as a typed one.

    Raises:
        TypeError: if it is not a key, or draws with it would depend on the batch.
        ValueError: if there are several keys.
    """
    key = check_any_key(key)
    implementation = str(jax.random.key_impl(key))
    if implementation != _IMPLEMENTATION:
        raise TypeError(
            f"key: expected one of {_IMPLEMENTATION}, got {implementation}, whose "
            "draws depend on how many samples run side by side; make it by "
            f"jax.random.key(0, impl={_IMPLEMENTATION!r})"
        )
    return key
