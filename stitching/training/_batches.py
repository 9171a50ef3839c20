"""A function of samples, batch by batch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def in_batches(
    function: Callable[..., PyTree], *arguments: PyTree, batch_size: int = 512
) -> PyTree[jax.Array]:
    """Applies a function of samples batch by batch, compiled.

    Only one batch of the samples and the results are on the device. Every batch is of
    the same size: the last one goes back so far that it is whole.

    Args:
        function: of the arguments, for instance `model.apply`, `cut.front`, or the
            `apply` of a stitched network. Compiled once for each function object.
        *arguments: of the function; the last one is x, samples along the leading axes
            of its arrays.
        batch_size: samples a batch.

    Returns:
        What the function gives for all samples, along the leading axes.

    Raises:
        ValueError: if x has no samples or arrays of different lengths, the batch size
            is not positive, or the function's results have not one row a sample.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.arange(10.0).reshape(5, 2)
        >>> stitching.in_batches(jnp.multiply, 2.0, x, batch_size=2)[-1].tolist()
        [16.0, 18.0]
    """
    *fixed, x = arguments
    samples = count("x", x)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    size = min(batch_size, samples)
    buffer = _results(function, fixed, x, samples, size)
    for start in range(0, samples, size):
        start = min(start, samples - size)
        batch = jax.tree.map(lambda leaf: leaf[start : start + size], x)  # noqa: B023
        buffer = _fill(function, buffer, start, *fixed, batch)
    return buffer


def _results(function, fixed, x, samples: int, size: int) -> PyTree[jax.Array]:
    """Room for the results."""
    given = jax.eval_shape(function, *fixed, rows_like(x, size))

    def room(leaf):
        if leaf.shape[:1] != (size,):
            raise ValueError(
                f"function: expected results with one row a sample, ({size}, ...) for "
                f"a batch, got shape {leaf.shape}"
            )
        return jnp.zeros((samples, *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(room, given)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _fill(function, buffer, start, *arguments):
    def put(whole, part):
        return jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis=0)

    return jax.tree.map(put, buffer, function(*arguments))


def rows_like(tree: PyTree, rows: int) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of so many samples of a tree."""

    def like(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(like, jax.eval_shape(lambda tree: tree, tree))


def count(name: str, tree: PyTree) -> int:
    """How many samples there are along the leading axes.

    Raises:
        ValueError: if there are none, or the arrays differ in it.
    """
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
        raise ValueError(
            f"{name}: expected arrays of one length, (samples, ...) with at least 1 "
            f"sample, got shapes {shapes}"
        )
    return lengths.pop()[0]
