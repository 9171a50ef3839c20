"""A function of samples, batch by batch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from stitching._compiled import Static, compiled
from stitching.cutting import Cut


def in_batches(
    function: Callable[..., PyTree], *arguments: PyTree, batch_size: int = 512
) -> PyTree[jax.Array]:
    """Apply a function of samples batch by batch, compiled.

    Only one batch of the samples and the results are on the device. All batches have
    the same size: the last one overlaps the one before if it has to.

    Args:
        function: of the arguments, for instance `model.apply`, `cut.front`, the `apply`
            of a stitched network, or an NNX module or one of its methods. Compiled once
            per function, and for NNX modules of the same structure; as with `jax.jit`,
            what a function of your own reads beside its arguments (an NNX module, say)
            is read when it is first traced.
        *arguments: of the function; the last one is x, a tree of arrays (samples, ...).
        batch_size: samples per batch.

    Returns:
        The function's results for all samples, along the leading axis.

    Raises:
        ValueError: if x has no samples or arrays of different lengths, the batch size
            is not positive, the results do not have one row per sample, or an NNX
            module changes its state (an `nnx.Intermediate` does not count).

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.arange(10.0).reshape(5, 2)
        >>> stitching.in_batches(jnp.multiply, 2.0, x, batch_size=2)[-1].tolist()
        [16.0, 18.0]
    """
    return _joined(_compiled(function), *arguments, batch_size=batch_size)


def front_in_batches(
    cut: Cut, variables: PyTree, x: PyTree, batch_size: int = 512
) -> PyTree[jax.Array]:
    """Apply the front of a cut batch by batch; equal cuts share compilations."""
    run = functools.partial(compiled, cut.front, ())
    return _joined(run, variables, x, batch_size=batch_size)


def _joined(
    run: Callable[..., PyTree], *arguments: PyTree, batch_size: int
) -> PyTree[jax.Array]:
    """Apply a compiled function batch by batch."""
    *fixed, x = arguments
    samples = count("x", x)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    size = min(batch_size, samples)
    result = None
    for start in range(0, samples, size):
        start = min(start, samples - size)
        batch = jax.tree.map(lambda leaf: leaf[start : start + size], x)  # noqa: B023
        part = run(*fixed, batch)
        result = _room(part, samples, size) if result is None else result
        result = _put(result, part, start)
    return result


def _compiled(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    module = getattr(function, "__self__", function)
    if isinstance(module, nnx.Module):
        method = getattr(function, "__func__", type(module).__call__)
        graph, state = nnx.split(module)
        return functools.partial(compiled, _call, (Static(graph, method),), state)
    return functools.partial(compiled, function, ())


def _call(static: Static, state: nnx.State, *arguments: PyTree) -> PyTree:
    """The result of a method of an NNX module."""
    graph, method = static.parts
    before, module = _by_path(state), nnx.merge(graph, state)
    result = method(module, *arguments)
    for name, leaf in _by_path(nnx.state(module)).items():
        if leaf is not before.get(name):
            raise ValueError(
                "function: expected an NNX module that does not change its state, got "
                f"a {type(module).__name__} that changes {name!r}; if its `eval()` "
                "does not stop that, pass a function of its state that merges and "
                "calls it"
            )
    return result


def _by_path(state: nnx.State) -> dict[str, Any]:
    """The arrays of a state, without what a network only records."""
    kept = nnx.filter_state(state, nnx.Not(nnx.Intermediate))
    leaves = jax.tree.leaves_with_path(kept)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def _room(part: PyTree, samples: int, size: int) -> PyTree[jax.Array]:
    """An empty array for all results, from those of a batch."""

    def empty(leaf):
        if leaf.shape[:1] != (size,):
            raise ValueError(
                f"function: expected results with one row per sample, ({size}, ...) "
                f"for a batch, got shape {leaf.shape}"
            )
        return jnp.zeros((samples, *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(empty, part)


@functools.partial(jax.jit, donate_argnums=0)
def _put(result: PyTree, part: PyTree, start: Any) -> PyTree:
    def put(whole, part):
        return jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis=0)

    return jax.tree.map(put, result, part)


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
