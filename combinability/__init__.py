"""Permutation symmetry of networks, re-basin, and combinations of aligned networks."""

from combinability.symmetry import (
    CertificationError,
    Group,
    Permutation,
    Symmetry,
    infer_symmetry,
    register_rule,
)

__all__ = [
    "CertificationError",
    "Group",
    "Permutation",
    "Symmetry",
    "infer_symmetry",
    "register_rule",
]
