"""What each operation means for the labels of its axes."""

from combinability.symmetry.rules import _contract, _control, _elementwise, _shape
from combinability.symmetry.rules._registry import RULES, register_rule

__all__ = [
    "RULES",
    "_contract",
    "_control",
    "_elementwise",
    "_shape",
    "register_rule",
]
