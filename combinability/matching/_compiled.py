"""Coordinate ascent over groups as one program, to be compiled, mapped and sharded."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from combinability.matching._indices import Indices, present, resolve, spread
from combinability.matching._terms import Plan, Unit
from combinability.matching._worth import block_overlap, term_worth


@functools.partial(jax.jit, static_argnums=0)
def ascend(
    plan: Plan,
    a: Sequence[Array],
    b: Sequence[Array],
    start: Mapping[str, Array],
    orders: Int[Array, "sweeps families"],
) -> tuple[dict[str, Array], Float[Array, " sweeps_and_start"]]:
    """Sweeps over the families until none improves.

    Args:
        plan: the terms.
        a: the blocks of a.
        b: the blocks of b.
        start: the permutation to start from.
        orders: for each sweep the order of the families.

    Returns:
        The permutation, and the objective at the start and after each sweep; after the
        last one that was made it stays.
    """
    indices = spread(plan, start, jnp)
    neighbours = _neighbours(plan)
    count = len(plan.families)
    branches = [
        *(functools.partial(_improve, plan, family, a, b) for family in plan.families),
        lambda indices: (indices, jnp.zeros((), a[0].dtype)),
    ]

    def visit(step, state):
        sweep, indices, stale, gain = state
        family = orders[sweep, step]
        chosen = jnp.where(stale[family], family, count)
        indices, found = jax.lax.switch(chosen, branches, indices)
        stale = stale.at[family].set(False) | (neighbours[family] & (found > 0))
        return sweep, indices, stale, gain + found

    def sweep(state):
        number, indices, stale, history, _ = state
        zero = jnp.zeros((), a[0].dtype)
        _, indices, stale, gain = jax.lax.fori_loop(
            0, count, visit, (number, indices, stale, zero)
        )
        later = jnp.arange(len(orders) + 1) > number
        history = jnp.where(later, history + gain, history)
        return number + 1, indices, stale, history, gain > 0

    def unfinished(state):
        return (state[0] < len(orders)) & state[-1]

    begin = jnp.full(len(orders) + 1, _objective(plan, a, b, indices))
    state = (0, indices, jnp.ones(count, bool), begin, jnp.array(True))
    _, indices, _, history, _ = jax.lax.while_loop(unfinished, sweep, state)
    return resolve(plan, indices), history


def _improve(
    plan: Plan,
    family: Sequence[Unit],
    a: Sequence[Array],
    b: Sequence[Array],
    indices: Indices,
) -> tuple[Indices, Float[Array, ""]]:
    gain = jnp.zeros((), a[0].dtype)
    for unit in family:
        indices, found = _assign(plan, unit, a, b, indices)
        gain += found
    return indices, gain


def _assign(
    plan: Plan, unit: Unit, a: Sequence[Array], b: Sequence[Array], indices: Indices
) -> tuple[Indices, Float[Array, ""]]:
    """The best assignment of one group, others being as they are."""
    permutation = resolve(plan, indices)
    terms = (term_worth(term, a, b, permutation, indices) for term in unit.terms)
    worth = functools.reduce(jnp.add, terms)
    noise = 2 * jnp.finfo(a[0].dtype).eps
    old, new = indices[unit.name], _best(worth)
    before, after = _chosen(worth, old), _chosen(worth, new)
    gains = after.sum(-1) - before.sum(-1)
    better = gains > noise * jnp.abs(after).sum(-1)
    proposed = {**indices, unit.name: jnp.where(better[..., None], new, old)}
    if unit.exact:
        rows = present(unit, plan, permutation)
        return proposed, jnp.where(better, gains, 0)[rows].sum()
    # The terms are a linear approximation: the objective itself decides.
    blocks = sorted({term.block for term in unit.terms})
    value = _objective(plan, a, b, indices, blocks)
    gain = _objective(plan, a, b, proposed, blocks) - value
    keep = gain > noise * jnp.abs(value)
    kept = jnp.where(keep, proposed[unit.name], old)
    return {**indices, unit.name: kept}, jnp.where(keep, gain, 0)


def _objective(
    plan: Plan,
    a: Sequence[Array],
    b: Sequence[Array],
    indices: Indices,
    blocks: Sequence[int] | None = None,
) -> Float[Array, ""]:
    permutation = resolve(plan, indices)
    numbers = range(len(a)) if blocks is None else blocks
    parts = [block_overlap(plan, i, a, b, permutation) for i in numbers]
    return jnp.sum(jnp.stack(parts))


def _best(worth: Float[Array, "*pairs n n"]) -> Int[Array, "*pairs n"]:
    def one(matrix):
        rows, columns = optax.assignment.hungarian_algorithm(-matrix)
        return jnp.zeros(len(rows), int).at[rows].set(columns)

    matrices = worth.reshape(-1, *worth.shape[-2:])
    return jax.vmap(one)(matrices).reshape(worth.shape[:-1])


def _chosen(worth: Array, index: Array) -> Array:
    return jnp.take_along_axis(worth, index[..., None], axis=-1)[..., 0]


def _neighbours(plan: Plan) -> Array:
    """Whether a change of one family (row) asks for another visit of another."""
    place = {u.name: i for i, family in enumerate(plan.families) for u in family}
    order = {name: i for i, name in enumerate(plan.units)}
    table = [[False] * len(plan.families) for _ in plan.families]
    for unit in plan.units.values():
        for term in unit.terms:
            for name in (*(move.name for move in term.before), *term.partners):
                # Within a family those before have just been assigned.
                if place[name] != place[unit.name] or order[name] >= order[unit.name]:
                    table[place[name]][place[unit.name]] = True
    return jnp.array(table)
