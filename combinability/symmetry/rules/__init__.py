"""What each operation means for the labels of its axes."""

from combinability.symmetry._walk import RULES, register_rule
from combinability.symmetry.rules import _contract, _control, _elementwise, _shape

__all__ = [
    "RULES",
    "_contract",
    "_control",
    "_elementwise",
    "_shape",
    "register_rule",
]
