"""What each operation means for the labels of its axes."""

from combinability.symmetry.rules import _contract, _control, _elementwise, _shape
from combinability.symmetry.rules._control import CALLS, called
from combinability.symmetry.rules._registry import RULES, register_rule

__all__ = [
    "CALLS",
    "RULES",
    "_contract",
    "_control",
    "_elementwise",
    "_shape",
    "called",
    "register_rule",
]
