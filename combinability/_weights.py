"""How far the weights of two networks are the same."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from combinability._combine import check_like, is_combined


def cosine(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """The cosine of the angle between two networks' weights, seen from the origin.

    Over all numbers of the trees together; leaves of integers, booleans and keys are
    left out. Pass the parameters alone where running statistics are not to count.
    Complex numbers count as two real ones.

    Args:
        a: variables of a network.
        b: variables of the same structure, shapes and dtypes. Not aligned by itself:
            permuted networks have other weights.

    Returns:
        A scalar in [−1, 1], at least in float32; NaN if one network is all zeros.

    Raises:
        ValueError: if the trees do not match, with the path of the first difference,
            or hold nothing to compare.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> a = {"w": jnp.array([1.0, 0.0]), "b": jnp.array(1.0)}
        >>> b = {"w": jnp.array([1.0, 0.0]), "b": jnp.array(-1.0)}
        >>> float(combinability.cosine(a, b))
        0.0
    """
    pairs = _numbers(a, b)
    inner = sum(jnp.sum(x * y) for x, y in pairs)
    squares = (sum(jnp.sum(x * x) for x in side) for side in zip(*pairs, strict=True))
    norm_a, norm_b = (jnp.sqrt(jnp.asarray(each)) for each in squares)
    return (inner / norm_a / norm_b).clip(-1, 1)


def l2(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """The Euclidean distance of two networks' weights.

    Args:
        a: variables of a network, as for `cosine`.
        b: variables of the same structure, shapes and dtypes.

    Returns:
        A scalar, at least in float32.

    Raises:
        ValueError: as `cosine`.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> a = {"w": jnp.zeros((2, 2)), "step": jnp.array(3)}
        >>> b = {"w": jnp.ones((2, 2)), "step": jnp.array(9)}
        >>> float(combinability.l2(a, b))
        2.0
    """
    squares = sum(jnp.sum((x - y) ** 2) for x, y in _numbers(a, b))
    return jnp.sqrt(jnp.asarray(squares))


def _numbers(a: PyTree, b: PyTree) -> list[tuple[Array, Array]]:
    """The leaves to compare, real and at least in float32."""
    check_like(b, a, "b", "a")
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [(_real(x), _real(y)) for x, y in leaves if is_combined(x) and np.size(x)]
    if not pairs:
        raise ValueError("a and b: expected real or complex numbers, got none")
    return pairs


def _real(x: ArrayLike) -> Array:
    """An array of real numbers, complex ones as pairs."""
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
