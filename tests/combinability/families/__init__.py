"""Small networks of every kind, each with the complete group of its permutations."""

from tests.combinability.families import (
    _attention,
    _axes,
    _convolutional,
    _dense,
    _experts,
    _operations,
    _programs,
    _recurrent,
    _traps,
)
from tests.combinability.families._family import FAMILIES, Family

__all__ = [
    "FAMILIES",
    "Family",
    "_attention",
    "_axes",
    "_convolutional",
    "_dense",
    "_experts",
    "_operations",
    "_programs",
    "_recurrent",
    "_traps",
]
