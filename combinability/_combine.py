"""Combinations of networks, and checks of networks that are combined."""

from collections.abc import Callable, Iterable, Sequence
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
    sign). In the notation of Csiszárik et al., 2023 (arXiv 2308.11511),
    :math:`\Lambda = 1 - T`. Leaves that are not numbers to combine (integers,
    booleans, keys) are a's.

    Args:
        a, b: variables of the same structure, shapes and dtypes.
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
    """
    check_like(b, a, "b", "a")
    return _combined((a, b), coefficients, (), lambda t, x, y: (1 - t) * x + t * y)


def combine_many(models: Sequence[PyTree], coefficients: PyTree) -> PyTree:
    r"""Combine N networks element by element.

    .. math::

        \Theta_T = \sum_m T_m \odot \Theta_m

    Args:
        models: N ≥ 1 trees of the same structure, shapes and dtypes.
        coefficients: T, usually of sum 1 over the networks: N numbers, or a tree like
            one network whose leaves have a leading axis N and then broadcast to the
            network's leaf.

    Returns:
        A tree like one network; leaves that are not combined are the first one's.

    Raises:
        ValueError: as `combine`, and if there is no network.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> models = [{"w": jnp.full(2, m)} for m in (0.0, 1.0, 5.0)]
        >>> combinability.combine_many(models, [0.5, 0.25, 0.25])["w"].tolist()
        [1.5, 1.5]
    """
    models = tuple(models)
    if not models:
        raise ValueError("models: expected at least one network, got none")
    for number, model in enumerate(models[1:], start=1):
        check_like(model, models[0], f"models[{number}]", "models[0]")
    if _are_numbers(coefficients):
        coefficients = jnp.stack([jnp.asarray(c) for c in coefficients])

    def mixed(c, *values):
        return sum(c[m] * value for m, value in enumerate(values))

    return _combined(models, coefficients, (len(models),), mixed)


def _are_numbers(values: Any) -> bool:
    """Whether this is a list of numbers; traced ones are some, too."""
    if not isinstance(values, list | tuple) or not values:
        return False
    return jax.tree_util.all_leaves(values) and not any(map(jnp.ndim, values))


def is_combined(leaf: Any) -> bool:
    """Return whether a leaf holds real or complex numbers, which are combined."""
    return jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def dtype_of(leaf: Any) -> Any:
    """Return the dtype of a leaf as JAX holds it: an array, a key array or a number."""
    if isinstance(leaf, np.ndarray | np.generic):
        return jax.dtypes.canonicalize_dtype(leaf.dtype)
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.asarray(leaf).dtype


def check_networks(networks: dict[str, PyTree]) -> list[PyTree]:
    """Return networks, by the names of their arguments, as trees of JAX arrays.

    Raises a ValueError if they differ in structure, shapes or dtypes, or hold NaN or
    infinity.
    """
    first, like = next(iter(networks.items()))
    for name, network in networks.items():
        check_like(network, like, name, first)
        check_finite(name, named_leaves(name, network))
    return [jax.tree.map(jnp.asarray, network) for network in networks.values()]


def check_finite(name: str, leaves: Iterable[tuple[str, Any]]) -> None:
    """Check that all parameters, given with their paths, are finite."""
    for path, leaf in leaves:
        bad = np.size(leaf) - int(np.isfinite(leaf).sum()) if is_combined(leaf) else 0
        if bad:
            raise ValueError(
                f"{name}: expected finite parameters, got {bad} that are NaN or "
                f"infinite at {path!r}"
            )


def check_like(tree: PyTree, like: PyTree, name: str, like_name: str) -> None:
    """Check that two trees have the same structure, shapes and dtypes."""
    found, expected = named_leaves(name, tree), named_leaves(like_name, like)
    what = f"{name} does not match {like_name}"
    check_paths(what, found, expected)
    for (path, leaf), (_, like_leaf) in zip(found, expected, strict=True):
        kinds = [f"{dtype_of(x)} of shape {np.shape(x)}" for x in (like_leaf, leaf)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"{what} at {path!r}: expected {kinds[0]}, got {kinds[1]}")
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise ValueError(
            f"{what}: the leaves have the same paths in containers of other types; "
            "make both the same kind of tree"
        )


def _coefficient_leaves(like: PyTree, coefficients: PyTree, lead: tuple) -> list[Any]:
    """For each leaf a coefficient: axes `lead`, then what broadcasts to the leaf."""
    expected = named_leaves("models", like)
    structures = [jax.tree.structure(tree) for tree in (coefficients, like)]
    alone, one = map(jax.tree_util.treedef_is_leaf, structures)
    if alone and coefficients is not None:
        shape = jnp.shape(coefficients)
        if shape == lead:
            return [coefficients] * len(expected)
        if not one:
            wanted = f"an array of shape {lead}" if lead else "a number"
            raise ValueError(
                f"coefficients: expected {wanted} or a tree like the networks, got an "
                f"array of shape {shape}"
            )
    found = named_leaves("coefficients", coefficients)
    check_paths("coefficients", found, expected)
    for (path, leaf), (_, value) in zip(expected, found, strict=True):
        shape, full, start = jnp.shape(value), np.shape(leaf), len(lead)
        pairs = zip(shape[start:][::-1], full[::-1], strict=False)
        fits = all(size in (1, whole) for size, whole in pairs)
        if shape[:start] != lead or len(shape) - start > len(full) or not fits:
            wanted = f"{lead} followed by a shape" if lead else "a shape"
            raise ValueError(
                f"coefficients: expected {wanted} that broadcasts to {full} at "
                f"{path!r}, got {shape}"
            )
    return [value for _, value in found]


def _combined(
    models: Sequence[PyTree], coefficients: PyTree, lead: tuple, mixed: Callable
) -> PyTree:
    """A tree of `mixed(coefficient, *values)`, for each leaf that is combined."""

    def leaf(c, *values):
        if not is_combined(values[0]):
            return values[0]
        arrays = [jnp.asarray(value) for value in values]
        out = mixed(jnp.asarray(c), *arrays)
        return jnp.broadcast_to(out, arrays[0].shape).astype(arrays[0].dtype)

    found = _coefficient_leaves(models[0], coefficients, lead)
    columns = zip(found, *map(jax.tree.leaves, models), strict=True)
    structure = jax.tree.structure(models[0])
    return structure.unflatten([leaf(*column) for column in columns])
