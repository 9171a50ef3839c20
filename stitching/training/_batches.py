"""A function of samples, batch by batch."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def in_batches(
    function: Callable[..., PyTree], *arguments: PyTree, batch_size: int = 512
) -> PyTree[jax.Array]:
    """Apply a function of samples batch by batch, compiled.

    Only one batch of the samples and the results are on the device. All batches have
    the same size: the last one overlaps the one before if it has to.

    Args:
        function: of the arguments, for instance `model.apply`, `cut.front`, or the
            `apply` of a stitched network. Compiled once per function object.
        *arguments: of the function; the last one is x, a tree of arrays (samples, ...).
        batch_size: samples per batch.

    Returns:
        The function's results for all samples, along the leading axis.

    Raises:
        ValueError: if x has no samples or arrays of different lengths, the batch size
            is not positive, or the results do not have one row per sample.

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
    result = None
    for start in range(0, samples, size):
        start = min(start, samples - size)
        batch = jax.tree.map(lambda leaf: leaf[start : start + size], x)  # noqa: B023
        if result is None:
            result = _room(function, samples, size, *fixed, batch)
        result = _put(function, result, start, *fixed, batch)
    return result


def _room(function, samples: int, size: int, *arguments) -> PyTree[jax.Array]:
    """An empty array for all results."""

    def empty(leaf):
        if leaf.shape[:1] != (size,):
            raise ValueError(
                f"function: expected results with one row per sample, ({size}, ...) "
                f"for a batch, got shape {leaf.shape}"
            )
        return jnp.zeros((samples, *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(empty, _apply.eval_shape(function, *arguments))


@functools.partial(jax.jit, static_argnums=0)
def _apply(function, *arguments):
    return function(*arguments)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _put(function, result, start, *arguments):
    def put(whole, part):
        return jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis=0)

    return jax.tree.map(put, result, function(*arguments))


def count(name: str, tree: PyTree) -> int:
    """Return the number of samples along the leading axis.

    Raises:
        ValueError: if there are none, or the arrays differ in it.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    lengths = {shape[:1] for shape in shapes}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            f"{name}: expected arrays of one length, (samples, ...) with at least 1 "
            f"sample, got shapes {shapes}"
        )
    return lengths.pop()[0]
