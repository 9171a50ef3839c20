"""A user's metric, traced once: a pure program and the arrays that it captured."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from combinability._checks import check_function
from combinability._jaxpr import Program, captured, evaluate
from combinability._jaxpr import trace as traced
from combinability.symmetry._symmetry import path_name


class Metric(NamedTuple):
    """A metric as data.

    Attributes:
        program: what it computes; its constants are the captured arrays, which so can
            be given to a compiled program as arguments and are not built into it.
        outputs: shape and dtype of each array that it returns.
        structure: the tree of these.
    """

    program: Program
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    structure: Any

    @property
    def captured(self) -> list[Any]:
        """The arrays that the metric closed over."""
        return captured(self.program)

    def __call__(self, captured: Sequence[Any], variables: PyTree) -> list[Array]:
        """The leaves of the metric's value."""
        return evaluate(self.program, captured, *jax.tree.leaves(variables))


def trace(metric: Callable[[PyTree], PyTree], variables: PyTree) -> Metric:
    """Traces a metric for variables like the given ones.

    Raises:
        TypeError: if it returns no arrays, or something that is none.
    """
    check_function("metric", metric, "of variables")
    # A jitted metric keeps what it captured inside of its own program.
    inner = getattr(metric, "__wrapped__", metric)
    function = inner if isinstance(metric, jax.stages.Wrapped) else metric

    def checked(variables):
        value = function(variables)
        _check_value(value)
        return value

    program, shapes = traced(checked, variables)
    leaves, structure = jax.tree.flatten(shapes)
    return Metric(program, tuple(leaves), structure)


def _check_value(value: PyTree) -> None:
    found = jax.tree_util.tree_flatten_with_path(value)[0]
    if not found:
        raise TypeError(
            f"metric: expected arrays for each combination, got {value!r}; return what "
            "is to be kept"
        )
    for path, leaf in found:
        where = f" at {path_name(path)!r}" if path else ""
        try:
            dtype = jnp.result_type(leaf)
            kept = any(jnp.issubdtype(dtype, kind) for kind in (np.number, np.bool_))
        except TypeError:
            kept = False
        if not kept:
            raise TypeError(
                f"metric: expected arrays of numbers, got {type(leaf).__name__}{where}"
            )
