"""Intermediate values that carry groups: what activation matching compares."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from combinability._checks import check_paths, named_leaves
from combinability._jaxpr import Evaluation
from combinability.symmetry._symmetry import Carrier, Symmetry, Trace


def carriers(symmetry: Symmetry) -> tuple[Carrier, ...]:
    """List the inputs of layers that carry a group and depend on the network's input.

    Args:
        symmetry: one from `infer_symmetry`.

    Returns:
        For each such value (for a concatenation, each part of it) its block: shape, and
        for each axis the group that it carries or `None`.

    Raises:
        ValueError: if the symmetry has no trace, because it was not inferred.
    """
    return _trace(symmetry).carriers


def observe(symmetry: Symmetry, variables: Any, *inputs: Any) -> list[Array]:
    """Return the values of the carriers for one batch of inputs; may be traced.

    Args:
        symmetry: one from `infer_symmetry`.
        variables: variables of the network.
        *inputs: inputs of the shapes that the symmetry was inferred for.

    Returns:
        An array of shape `carrier.block.shape` for each of `carriers(symmetry)`.

    Raises:
        ValueError: if the variables or the inputs have other shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> from combinability.symmetry import carriers, infer_symmetry, observe
        >>> def apply(variables, x):
        ...     return jnp.maximum(x @ variables["in"], 0) @ variables["out"]
        >>> variables = {"in": jnp.array([[1.0, -1.0]]), "out": jnp.ones((2, 1))}
        >>> x = jnp.array([[1.0], [-2.0]])
        >>> symmetry = infer_symmetry(apply, variables, x)
        >>> [carrier.block.labels for carrier in carriers(symmetry)]
        [(None, 'in')]
        >>> observe(symmetry, variables, x)[0].tolist()
        [[1.0, 0.0], [0.0, 2.0]]
    """
    found, trace = carriers(symmetry), _trace(symmetry)
    leaves = symmetry.check(variables, "variables")
    given = named_leaves("inputs", inputs)
    if len(given) != len(trace.inputs):
        check_paths("inputs", given, trace.inputs)
    arrays = [array for _, array in given]
    for array, wanted in zip(arrays, trace.inputs, strict=True):
        if jnp.shape(array) != wanted.shape:
            raise ValueError(
                f"inputs: expected shape {wanted.shape} at {wanted.path!r}, as in the "
                f"inference, got {jnp.shape(array)}"
            )
    watched = Evaluation(watched=[carrier.path for carrier in found])
    seen = watched.run(trace.program, [*leaves, *arrays])[1]
    return [carrier.block.take(seen[carrier.path]) for carrier in found]


def _trace(symmetry: Symmetry) -> Trace:
    if symmetry.trace is None:
        raise ValueError(
            "symmetry: expected one from infer_symmetry, got one without the program "
            "that it was read off, which is not pickled with it"
        )
    return symmetry.trace
