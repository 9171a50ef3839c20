"""Operations that treat every entry alike: axes of all operands are permuted alike."""

from typing import Any

from combinability.symmetry import _label
from combinability.symmetry._walk import Labels, Walk
from combinability.symmetry.rules._registry import register_rule

_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh
    digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p
    logistic lt lt_to max min mul name ne neg nextafter not or polygamma
    population_count pow random_gamma_grad real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor zeta
"""


@register_rule(*_ELEMENTWISE.split())
def elementwise(walk: Walk, equation: Any, *operands: Labels) -> list[Labels]:
    """Axes of all operands unify; rank 0 or an axis of size 1 is no bar."""
    rank = max(map(len, operands))
    whole = [labels for labels in operands if len(labels) == rank]
    joined = list(whole[0])
    for labels in whole[1:]:
        joined = [_label.unify(x, y) for x, y in zip(joined, labels, strict=True)]
    return [joined]


@register_rule("device_put", "optimization_barrier", "pvary", "sharding_constraint")
def unchanged(walk: Walk, equation: Any, *operands: Labels):
    """Every operand passes."""
    return [list(labels) for labels in operands], list(walk.varying)
