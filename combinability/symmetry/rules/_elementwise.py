"""Operations on single entries; operations from outside; random numbers."""

from typing import Any

from combinability._jaxpr import ELEMENTWISE
from combinability.symmetry import _label
from combinability.symmetry._indices import Axes
from combinability.symmetry._walk import Labels, Walk, pin_all, register_rule


@register_rule(*ELEMENTWISE)
def elementwise(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """Axes of all operands unify, apart from operands of rank 0."""
    rank = max(map(len, operands))
    return [_label.unify_all(labels for labels in operands if len(labels) == rank)]


@register_rule("bitcast_convert_type")
def bitcast(walk: Walk, equation: Any, x: Labels) -> list[Labels]:
    """Elementwise; between types of different width the last axis holds the pieces."""
    shape, reason = equation.outvars[0].aval.shape, "they are pieces of one number"
    if len(shape) > len(x):
        return [[*x, _label.variable(shape[-1], reason)]]
    for axis in range(len(shape), len(x)):
        walk.pin(x, axis, reason, 1)
    return [x[: len(shape)]]


@register_rule(
    "device_put",
    "layout_constraint",
    "mesh_cast",
    "optimization_barrier",
    "pvary",
    "reshard",
    "sharding_constraint",
)
def unchanged(walk: Walk, equation: Any, *operands: Axes):
    """Every operand passes."""
    passed = [Axes.of(labels) for labels in operands]
    for labels in operands:
        labels.take()
    return passed, list(walk.varying)


@register_rule(
    "random_bits",
    "random_clone",
    "random_fold_in",
    "random_gamma",
    "random_seed",
    "random_split",
    "random_unwrap",
    "random_wrap",
    "rng_bit_generator",
    "rng_uniform",
    "threefry2x32",
)
def random_numbers(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """Each entry is another number."""
    reason = "random numbers (a dropout mask, noise) tell them apart"
    return pin_all(equation, operands, reason)


@register_rule("debug_callback", "debug_print", "io_callback", "pure_callback")
def callback(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """What is only looked at is not pinned; Python may return anything."""
    if not equation.outvars:
        return []
    return pin_all(equation, operands, "a Python callback may tell them apart")
