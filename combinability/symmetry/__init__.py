"""Which axes of which arrays may be permuted together, read off the traced program."""

from combinability.symmetry._carriers import carriers, observe
from combinability.symmetry._certify import CertificationError
from combinability.symmetry._infer import infer_symmetry
from combinability.symmetry._label import (
    Label,
    concatenation,
    cut,
    pin,
    product,
    split,
    uniform,
    unify,
    variable,
)
from combinability.symmetry._symmetry import (
    Axis,
    Block,
    Carrier,
    Group,
    Permutation,
    Pin,
    Symmetry,
)
from combinability.symmetry.rules import register_rule

__all__ = [
    "Axis",
    "Block",
    "Carrier",
    "CertificationError",
    "Group",
    "Label",
    "Permutation",
    "Pin",
    "Symmetry",
    "carriers",
    "concatenation",
    "cut",
    "infer_symmetry",
    "observe",
    "pin",
    "product",
    "register_rule",
    "split",
    "uniform",
    "unify",
    "variable",
]
