"""Permutations of units: a dict from group name to index array."""

from combinability._permutation import (
    compose,
    distance,
    identity,
    invert,
    perturb,
    random,
)

__all__ = ["compose", "distance", "identity", "invert", "perturb", "random"]
