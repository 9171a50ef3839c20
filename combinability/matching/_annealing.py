"""Soft assignments that harden slowly: a start that sees all groups at once.

The assignments of a group are relaxed to doubly stochastic matrices X; at first all
entries are equal. With E the derivative of the inner product ⟨a, X(b)⟩ by the X of one
group (what each pair of units is worth, the others being as soft as they are) and T the
temperature, X becomes the Sinkhorn projection of exp(E / T), group by group, while T
falls. What axes that do not permute say about their neighbours comes first; it spreads,
and is weighed by how certain it is.

Source: the softassign of Gold and Rangarajan, 1996 ("A graduated assignment algorithm
for graph matching"), here for all groups of a network at once.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from combinability._products import einsum, vdot
from combinability.matching._host import harden
from combinability.matching._terms import Plan, Unit

# Temperatures, relative to what a unit is worth when paired with itself: above the
# first little is decided, below the last little is open.
_FIRST, _LAST = 0.3, 0.02
_PROJECTIONS = 20

Soft = dict[str, Float[Array, "*pairs n n"]]


def annealed(
    relaxed: Plan, a: Sequence[Array], b: Sequence[Array], steps: int
) -> dict[str, Int[np.ndarray, "*within n"]]:
    """The permutation that soft assignments end at.

    Args:
        relaxed: the plan in which all groups enter by their matrices.
        a: the blocks of a.
        b: the blocks of b.
        steps: number of temperatures.
    """
    temperatures = np.geomspace(_FIRST, _LAST, steps)
    soft = _anneal(relaxed, a, b, jnp.asarray(temperatures, a[0].dtype))
    return harden(relaxed, jax.device_get(soft))


@functools.partial(jax.jit, static_argnums=0)
def _anneal(
    relaxed: Plan,
    a: Sequence[Array],
    b: Sequence[Array],
    temperatures: Float[Array, " steps"],
) -> Soft:
    units = [unit for family in relaxed.families for unit in family]
    scale = {unit.name: _scale(unit, a, b) for unit in units}
    soft = {
        unit.name: jnp.full((*unit.pairs, unit.size, unit.size), 1 / unit.size)
        for unit in units
    }
    soft = {name: matrix.astype(a[0].dtype) for name, matrix in soft.items()}

    def step(number, soft):
        for unit in units:
            worth = _worth(unit, a, b, soft)
            heat = temperatures[number] * scale[unit.name]
            soft = {**soft, unit.name: _project(worth / heat)}
        return soft

    return jax.lax.fori_loop(0, len(temperatures), step, soft)


def _worth(unit: Unit, a: Sequence[Array], b: Sequence[Array], soft: Soft) -> Array:
    terms = (
        einsum(
            term.subscripts,
            a[term.block],
            b[term.block],
            *(soft[name] for name in term.partners),
        )
        for term in unit.terms
    )
    return functools.reduce(jnp.add, terms)


def _scale(unit: Unit, a: Sequence[Array], b: Sequence[Array]) -> Float[Array, ""]:
    """The product of the norms of a unit's weights in both networks, on average."""
    blocks = [term.block for term in unit.terms]
    squares = [sum(vdot(x[i], x[i]) for i in blocks) for x in (a, b)]
    count = unit.size * np.prod([size for _, size, _ in unit.within])
    norms = jnp.sqrt(squares[0]) * jnp.sqrt(squares[1]) / count
    return jnp.where(norms > 0, norms, 1)


def _project(logits: Float[Array, "*pairs n n"]) -> Float[Array, "*pairs n n"]:
    """A doubly stochastic matrix: exp(logits) with rows and columns rescaled."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    matrix = jnp.exp(logits - logits.max(axis=-2, keepdims=True))
    tiny = jnp.finfo(matrix.dtype).tiny

    def rescale(_, rows):
        columns = 1 / (einsum("...ij,...i->...j", matrix, rows) + tiny)
        return 1 / (einsum("...ij,...j->...i", matrix, columns) + tiny)

    rows = jnp.ones(matrix.shape[:-1], matrix.dtype)
    matrix = matrix * jax.lax.fori_loop(0, _PROJECTIONS, rescale, rows)[..., None]
    return matrix / (matrix.sum(axis=-2, keepdims=True) + tiny)
