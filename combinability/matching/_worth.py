"""What pairs of units are worth: the arithmetic of matching by weights, compiled."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from combinability._products import einsum, vdot
from combinability.matching._terms import Plan, Term


def term_worth(
    term: Term,
    a: Sequence[Array],
    b: Sequence[Array],
    permutation: Mapping[str, Any],
    indices: Mapping[str, Any],
) -> Float[Array, "*pairs m m"]:
    """What a term adds to the worth of each pair of units of its group.

    Args:
        term: of a group.
        a: the blocks of a.
        b: the blocks of b.
        permutation: of the groups outside of the family.
        indices: of the groups of the family, for every pair of their parents.
    """
    return _worth(
        a[term.block],
        b[term.block],
        [permutation[move.name] for move in term.before],
        [indices[name] for name in term.partners],
        moves=tuple(move[1:] for move in term.before),
        subscripts=term.subscripts,
    )


def block_overlap(
    plan: Plan,
    number: int,
    a: Sequence[Any],
    b: Sequence[Any],
    permutation: Mapping[str, Any],
) -> Float[Array, ""]:
    """The inner product of a block of a and that of the permuted b, by NumPy or JAX."""
    inner = np.vdot if isinstance(a[number], np.ndarray) else vdot
    return inner(a[number], permuted(plan, number, b[number], permutation))


def permuted(plan: Plan, number: int, part: Any, permutation: Mapping[str, Any]) -> Any:
    """A block of the permuted network, by NumPy or JAX."""
    moves, xp = plan.moves[number], jnp
    if isinstance(part, np.ndarray):
        moves, xp = [m for m in moves if _moves(permutation[m.name])], np
    given = [permutation[move.name] for move in moves]
    return _moved(part, given, [move[1:] for move in moves], xp)


@functools.partial(jax.jit, static_argnames=("moves", "subscripts"))
def _worth(a, b, permutations, indices, *, moves, subscripts):
    matrices = [
        (index[..., None] == jnp.arange(index.shape[-1])).astype(a.dtype)
        for index in indices
    ]
    return einsum(subscripts, a, _moved(b, permutations, moves, jnp), *matrices)


def _moves(index: np.ndarray) -> bool:
    return not (index == np.arange(index.shape[-1])).all()


def _moved(part: Any, permutations: Sequence[Any], moves, xp) -> Any:
    """A block with the given axes permuted."""
    for index, (axis, parents) in zip(permutations, moves, strict=True):
        if not parents:
            part = xp.take(part, index, axis=axis)
            continue
        places = (*parents, axis)
        shape = [part.shape[i] if i in places else 1 for i in range(part.ndim)]
        order = sorted(range(len(places)), key=places.__getitem__)
        index = xp.transpose(index, order).reshape(shape)
        part = xp.take_along_axis(part, index, axis=axis)
    return part
