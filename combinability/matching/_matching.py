"""What every way of matching gives."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int


class Matching(NamedTuple):
    """A permutation that moves one network towards another, and how well it does.

    Attributes:
        permutation: group name -> index array, for `Symmetry.apply`: (size,), or
            (*blocks, size) for a group within others.
        objective: what was maximised, at the end. For matching by weights this is the
            inner product ⟨a, π(b)⟩ over all arrays that carry a group; π(b) is nearest
            to a, in the Euclidean norm, where it is largest. Straight-through
            matching minimises: there it is the lowest loss.
        history: the objective at the start and after each sweep over the groups, or
            at each look at the loss.
        starts: where several starts were tried, the objective that each led to.
    """

    permutation: dict[str, Int[Array, "*within size"]]
    objective: Float[Array | np.generic, ""]
    history: Float[Array | np.ndarray, " sweeps_and_start"]
    starts: Mapping[str, float] | None = None
