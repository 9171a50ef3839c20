"""Combinations of networks, and checks of networks that are combined."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability._checks import check_paths, named_leaves


def combine(a: PyTree, b: PyTree, coefficients: PyTree) -> PyTree:
    r"""Combine two networks element by element.

    .. math::

        \Theta_T = (1 - T) \odot \Theta_A + T \odot \Theta_B

    Coefficient 0 gives the values of a and 1 those of b exactly (a zero may lose its
    sign). In the paper's notation :math:`\Lambda = 1 - T`. Leaves that are not numbers
    to combine (integers, booleans, keys) are a's.

    Args:
        a: variables of a network.
        b: variables of the same structure, shapes and dtypes.
        coefficients: T, inside [0, 1] or outside: a number, or a tree like a whose
            leaves broadcast to those of a. May be traced.

    Returns:
        A tree like a. Arithmetic is in the wider dtype of parameters and coefficients,
        the result in the parameters'.

    Raises:
        ValueError: if the trees do not match, with the path of the first difference,
            or a coefficient does not broadcast to its leaf.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> a, b = {"w": jnp.array([0.0, 1.0])}, {"w": jnp.array([4.0, 3.0])}
        >>> combinability.combine(a, b, 0.25)["w"].tolist()
        [1.0, 1.5]
        >>> combinability.combine(a, b, {"w": jnp.array([1.0, 0.0])})["w"].tolist()
        [4.0, 1.0]

    References:
        Csiszárik et al., 2023 (arXiv 2308.11511).
    """
    check_like(b, a, "b", "a")

    def mixed(x, y, t):
        return (1 - t) * x + t * y

    return _map(mixed, (a, b), _coefficient_leaves(a, coefficients, ()))


def combine_many(models: Sequence[PyTree], coefficients: PyTree) -> PyTree:
    r"""Combine N networks element by element.

    .. math::

        \Theta_T = \sum_m T_m \odot \Theta_m

    Args:
        models: N ≥ 1 trees of the same structure, shapes and dtypes.
        coefficients: T, usually of sum 1 over the networks: an array of shape (N,), or
            a tree like one network whose leaves have a leading axis N and then
            broadcast to the network's leaf.

    Returns:
        A tree like one network; leaves that are not combined are the first one's.

    Raises:
        ValueError: as `combine`, and if there is no network.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> models = [{"w": jnp.full(2, m)} for m in (0.0, 1.0, 5.0)]
        >>> third = jnp.full(3, 1 / 3)
        >>> combinability.combine_many(models, third)["w"].tolist()
        [2.0, 2.0]
    """
    models = tuple(models)
    if not models:
        raise ValueError("models: expected at least one network, got none")
    for number, model in enumerate(models[1:], start=1):
        check_like(model, models[0], f"models[{number}]", "models[0]")

    def mixed(*values_and_coefficient):
        *values, c = values_and_coefficient
        return sum(c[m] * value for m, value in enumerate(values))

    lead = (len(models),)
    return _map(mixed, models, _coefficient_leaves(models[0], coefficients, lead))


def is_combined(leaf: Any) -> bool:
    """Return whether a leaf holds real or complex numbers, which are combined."""
    return jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def dtype_of(leaf: Any) -> Any:
    """Return the dtype of a leaf: an array, a key array or a Python number."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.asarray(leaf).dtype


def check_networks(networks: dict[str, PyTree]) -> list[PyTree]:
    """Return networks, given by the names of their arguments, as trees of JAX arrays.

    Raises:
        ValueError: if they differ in structure, shapes or dtypes, or are not finite.
    """
    first, like = next(iter(networks.items()))
    for name, network in networks.items():
        check_like(network, like, name, first)
        check_finite(name, network)
    return [jax.tree.map(jnp.asarray, network) for network in networks.values()]


def check_finite(name: str, network: PyTree) -> None:
    """Check that all parameters are finite.

    Raises:
        ValueError: if one is NaN or infinite.
    """
    for path, leaf in named_leaves(name, network):
        if is_combined(leaf) and not np.isfinite(leaf).all():
            raise ValueError(
                f"{name}: expected finite parameters, got NaN or infinity at {path!r}"
            )


def check_like(tree: PyTree, like: PyTree, name: str, like_name: str) -> None:
    """Check that two trees have the same structure, shapes and dtypes.

    Raises:
        ValueError: at the first difference, with its path.
    """
    found, expected = named_leaves(name, tree), named_leaves(like_name, like)
    what = f"{name} does not match {like_name}"
    check_paths(what, found, expected)
    for (path, leaf), (_, like_leaf) in zip(found, expected, strict=True):
        kinds = [(np.shape(x), dtype_of(x)) for x in (leaf, like_leaf)]
        if kinds[0] != kinds[1]:
            (shape, dtype), (like_shape, like_dtype) = kinds
            raise ValueError(
                f"{what} at {path!r}: expected {like_dtype} of shape {like_shape}, got "
                f"{dtype} of shape {shape}"
            )
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise ValueError(
            f"{what}: the leaves have the same paths in containers of other types; "
            "make both the same kind of tree"
        )


def _coefficient_leaves(like: PyTree, coefficients: PyTree, lead: tuple) -> list[Any]:
    """For each leaf a coefficient: axes `lead`, then what broadcasts to the leaf."""
    leaves = jax.tree.leaves(like)
    structure = jax.tree.structure(coefficients)
    if coefficients is not None and jax.tree_util.treedef_is_leaf(structure):
        shape = jnp.shape(coefficients)
        if shape == lead:
            return [coefficients] * len(leaves)
        if not jax.tree_util.treedef_is_leaf(jax.tree.structure(like)):
            wanted = f"an array of shape {lead}" if lead else "a number"
            raise ValueError(
                f"coefficients: expected {wanted} or a tree like the networks, got an "
                f"array of shape {shape}"
            )
    expected = named_leaves("models", like)
    found = named_leaves("coefficients", coefficients)
    check_paths("coefficients", found, expected)
    for (path, leaf), (_, value) in zip(expected, found, strict=True):
        _check_broadcast(path, np.shape(leaf), jnp.shape(value), lead)
    return [value for _, value in found]


def _check_broadcast(path: str, shape: tuple, found: tuple, lead: tuple) -> None:
    rest = found[len(lead) :]
    broadcasts = len(rest) <= len(shape) and all(
        size in (1, full) for size, full in zip(rest[::-1], shape[::-1], strict=False)
    )
    if found[: len(lead)] != lead or not broadcasts:
        wanted = f"{lead} followed by a shape" if lead else "a shape"
        raise ValueError(
            f"coefficients: expected {wanted} that broadcasts to {shape} at {path!r}, "
            f"got {found}"
        )


def _map(mixed: Callable, models: Sequence[PyTree], coefficients: list) -> PyTree:
    def leaf(c, *values):
        if not is_combined(values[0]):
            return values[0]
        arrays = [jnp.asarray(value) for value in values]
        out = mixed(*arrays, jnp.asarray(c))
        return jnp.broadcast_to(out, arrays[0].shape).astype(arrays[0].dtype)

    structure = jax.tree.structure(models[0])
    columns = zip(coefficients, *map(jax.tree.leaves, models), strict=True)
    return jax.tree.unflatten(structure, [leaf(c, *values) for c, *values in columns])
