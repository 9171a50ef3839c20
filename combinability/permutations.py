"""Permutations of units: a dict from group name to index array.

The index array of a group has shape (size,), or (*blocks, size) for a group within
others: a row for each of their units. Groups that a permutation does not name stay. One
that names an unknown group, or whose index array has another shape or dtype or does not
name each unit once, raises a ValueError.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from combinability._checks import check_any_key, check_mapping, check_number
from combinability.symmetry._indexing import at_parents
from combinability.symmetry._symmetry import Permutation, Symmetry

__all__ = ["compose", "distance", "identity", "invert", "perturb", "random"]

Permutations = dict[str, Int[Array, "*within size"]]


def identity(symmetry: Symmetry) -> Permutations:
    """Return the identity permutation: 0, …, size − 1 in every row. See `compose`."""
    return {
        name: jnp.broadcast_to(jnp.arange(group.size), (*group.blocks, group.size))
        for name, group in symmetry.groups.items()
    }


def random(key: PRNGKeyArray, symmetry: Symmetry) -> Permutations:
    """Draw a uniformly random permutation, independently for each group and row.

    Args:
        key: a key of `jax.random`.
        symmetry: the groups to permute.

    Example:
        See `compose`.
    """
    start = identity(symmetry)
    keys = jax.random.split(check_any_key(key), max(len(start), 1))
    return {
        name: jax.random.permutation(keys[i], index, axis=-1, independent=True)
        for i, (name, index) in enumerate(start.items())
    }


def compose(symmetry: Symmetry, outer: Permutation, inner: Permutation) -> Permutations:
    """Compose two permutations: first the inner, then the outer.

    `apply(compose(outer, inner), v)` is `apply(outer, apply(inner, v))`. For a group
    that lies within others this is a semidirect product: with p the parents' units,

        parent[p] = inner_parent[outer_parent[p]]
        child[p, i] = inner_child[outer_parent[p], outer_child[p, i]]

    Args:
        symmetry: the groups, and which lie within which.
        outer, inner: the permutations that are applied second and first.

    Returns:
        Index arrays of all groups.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from combinability import infer_symmetry, permutations
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> v = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
        >>> symmetry = infer_symmetry(apply, v, jnp.ones((1, 2)))
        >>> turn = {"in": jnp.array([1, 2, 0])}
        >>> permutations.compose(symmetry, turn, turn)["in"].tolist()
        [2, 0, 1]
        >>> permutations.invert(symmetry, turn)["in"].tolist()
        [2, 0, 1]
        >>> permutations.identity(symmetry)["in"].tolist()
        [0, 1, 2]
        >>> sorted(permutations.random(jax.random.key(0), symmetry)["in"].tolist())
        [0, 1, 2]
    """
    outer = _complete(symmetry, outer, "outer")
    inner = _complete(symmetry, inner, "inner")
    return {
        name: inner[name][(*at_parents(symmetry.groups, outer, name), outer[name])]
        for name in symmetry.groups
    }


def invert(symmetry: Symmetry, permutation: Permutation) -> Permutations:
    """Return the inverse of a permutation, for all groups; see `compose`.

    `compose` of both, in either order, is the identity.
    """
    given = _complete(symmetry, permutation, "permutation")
    inverse: Permutations = {}
    for name in sorted(symmetry.groups, key=lambda n: len(symmetry.groups[n].within)):
        parents = at_parents(symmetry.groups, inverse, name)
        rows = given[name][tuple(index[..., 0] for index in parents)]
        inverse[name] = jnp.argsort(rows, axis=-1)
    return {name: inverse[name] for name in symmetry.groups}


def perturb(
    key: PRNGKeyArray, permutation: Permutation, fraction: float
) -> Permutations:
    """Move some of the units of a permutation at random.

    In each row of each index array random pairs of entries are exchanged until at least
    round(fraction · size) units of the row differ from the given ones; at most one more
    does. Rows of one unit stay.

    Args:
        key: a key of `jax.random`.
        permutation: where to start from.
        fraction: the fraction of units to move, in [0, 1], else a ValueError.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> start = {"hidden": jnp.arange(10)}
        >>> moved = combinability.permutations.perturb(jax.random.key(0), start, 0.4)
        >>> int((moved["hidden"] != start["hidden"]).sum())
        4
    """
    fraction = check_number("fraction", fraction, 0, 1)
    check_mapping("permutation", permutation, "group -> index array")
    keys = jax.random.split(check_any_key(key), max(len(permutation), 1))
    moved = {}
    for i, (name, given) in enumerate(permutation.items()):
        index = jnp.asarray(given)
        rows = index.reshape(-1, index.shape[-1])
        count = round(fraction * index.shape[-1]) if index.shape[-1] > 1 else 0
        moved[name] = _exchange(keys[i], rows, count).reshape(index.shape)
    return moved


def distance(first: Permutation, second: Permutation) -> Float[Array, ""]:
    """Return the fraction of units for which two permutations differ, in [0, 1].

    The number of entries of the index arrays that differ divided by the number of
    entries, over all groups that one of them names. A unit of a group within others
    counts once for each of their units, by its index there: it does not count as moved
    when only they are.

    Raises:
        ValueError: if an index array of both has different shapes.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> stay, swap = {"h": jnp.arange(4)}, {"h": jnp.array([1, 0, 2, 3])}
        >>> float(combinability.permutations.distance(stay, swap))
        0.5
    """
    differ, total = jnp.zeros((), int), 0
    for name in {**first, **second}:
        given = [jnp.asarray(p[name]) for p in (first, second) if name in p]
        if given[0].shape != given[-1].shape:
            raise ValueError(
                f"second[{name!r}]: expected the shape of first[{name!r}], "
                f"{given[0].shape}, got {given[-1].shape}"
            )
        other = given[1] if len(given) > 1 else jnp.arange(given[0].shape[-1])
        differ += (given[0] != other).sum()
        total += given[0].size
    return differ / max(total, 1)


def _complete(
    symmetry: Symmetry, permutation: Permutation, argument: str
) -> Permutations:
    """The index arrays of all groups."""
    symmetry.check_permutation(permutation, argument)
    named = {name: jnp.asarray(index) for name, index in permutation.items()}
    return {**identity(symmetry), **named}


@jax.jit
def _exchange(
    key: PRNGKeyArray, rows: Int[Array, "rows n"], count: int
) -> Int[Array, "rows n"]:
    """Rows after random transpositions, when `count` entries of each have moved."""

    def until_moved(key: PRNGKeyArray, row: Int[Array, " n"]) -> Int[Array, " n"]:
        def unfinished(state: tuple[PRNGKeyArray, Int[Array, " n"]]) -> Bool[Array, ""]:
            return (state[1] != row).sum() < count

        def swap(state: tuple[PRNGKeyArray, Int[Array, " n"]]):
            key, *drawn = jax.random.split(state[0], 3)
            first = jax.random.randint(drawn[0], (), 0, row.size)
            step = jax.random.randint(drawn[1], (), 1, row.size)
            pair = jnp.stack([first, (first + step) % row.size])
            return key, state[1].at[pair].set(state[1][pair[::-1]])

        return jax.lax.while_loop(unfinished, swap, (key, row))[1]

    return jax.vmap(until_moved)(jax.random.split(key, len(rows)), rows)
