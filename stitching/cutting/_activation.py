"""Whether an activation fits the cut, and inputs of a fitting size."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def inputs_like(example: PyTree, given: PyTree, activation: PyTree) -> PyTree[Array]:
    """Zeros in place of inputs that are not used, in proportion to the leading axis.

    Args:
        example: shapes and dtypes of some inputs.
        given: what the layer gives for them.
        activation: what takes its place.
    """
    leading = [_leading(jax.tree.leaves(tree)) for tree in (given, activation)]

    def zeros(array):
        shape = array.shape
        if shape and all(leading):
            shape = (max(1, shape[0] * leading[1] // leading[0]), *shape[1:])
        return jnp.zeros(shape, array.dtype)

    return jax.tree.map(zeros, example)


def _leading(arrays: list) -> int:
    shape = jnp.shape(arrays[0]) if arrays else ()
    return shape[0] if shape else 0


def conform(activation: PyTree, expected: PyTree, path: str, alone: bool) -> PyTree:
    """An activation in the dtype that the layer gives.

    Raises:
        ValueError: if structure, shape or kind differ.
    """
    trees = jax.tree.structure(activation), jax.tree.structure(expected)
    if trees[0] != trees[1]:
        raise ValueError(
            f"activation: expected {trees[1]}, as layer {path!r} gives, got {trees[0]}"
        )

    def convert(array, wanted):
        array = jnp.asarray(array)
        floats = [jnp.issubdtype(a.dtype, jnp.floating) for a in (array, wanted)]
        if array.shape != wanted.shape:
            hint = ", or pass x if its batch size is another" if alone else ""
            raise ValueError(
                f"activation: expected shape {wanted.shape}, as layer {path!r} gives, "
                f"got {array.shape}; map the activation to that shape first{hint}"
            )
        if array.dtype != wanted.dtype and not all(floats):
            raise ValueError(
                f"activation: expected {wanted.dtype} or the same kind of numbers, as "
                f"layer {path!r} gives, got {array.dtype}"
            )
        return array.astype(wanted.dtype)

    return jax.tree.map(convert, activation, expected)
