"""Perturbed permutations, and what they lose of the matching's objective."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from combinability._keys import Key
from combinability._permutation import Permutations, distance, perturb, random
from combinability._products import vdot
from combinability.symmetry._symmetry import Symmetry

# Random permutations whose mean objective stands for "not matched".
_RANDOM = 32


class Spoilt(NamedTuple):
    """Perturbed permutations, `fractions · trials` of them, fraction by fraction.

    Attributes:
        permutations: group -> index arrays with a leading axis.
        moved: the fraction of units that each moves.
        lost: what of the objective above chance each loses.
        matched: the objective of the given permutation.
        chance: its mean over random permutations.
    """

    permutations: Permutations
    moved: Float[np.ndarray, " perturbed"]
    lost: Float[np.ndarray, " perturbed"]
    matched: float
    chance: float


def spoil(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    permutation: Permutations,
    key: Key,
    fractions: Sequence[float],
    trials: int,
) -> Spoilt:
    """Perturbs the permutation of b towards a, `trials` times for each fraction."""
    perturbing, comparing = jax.random.split(key)
    perturbed = _perturbed(perturbing, permutation, fractions, trials)
    chances = _random(comparing, symmetry, permutation)
    together = jax.tree.map(
        lambda given, *others: np.concatenate([given[None], *others]),
        permutation,
        perturbed,
        chances,
    )
    matched, *others = _objectives(symmetry, a, b, together)
    chance = np.mean(others[-_RANDOM:])
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = (matched - np.array(others[:-_RANDOM])) / (matched - chance)
    moved = jax.jit(jax.vmap(functools.partial(distance, permutation)))(perturbed)
    return Spoilt(perturbed, np.asarray(moved), lost, float(matched), float(chance))


def _perturbed(
    key: Key, permutation: Permutations, fractions: Sequence[float], trials: int
) -> Permutations:
    """Perturbed permutations, fraction by fraction, each (fractions · trials, …)."""
    # The same keys for every fraction: the walks are the same, some end sooner.
    keys = jax.random.split(key, trials)

    def to(fraction: float) -> Permutations:
        return jax.vmap(lambda own: perturb(own, permutation, fraction))(keys)

    found = map(to, fractions)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def _random(key: Key, symmetry: Symmetry, permutation: Permutations) -> Permutations:
    """Random permutations of the same groups, each (32, …)."""

    def drawn(key: Key) -> Permutations:
        every = random(key, symmetry)
        return {name: every[name].astype(jnp.int32) for name in permutation}

    return jax.vmap(drawn)(jax.random.split(key, _RANDOM))


def _objectives(
    symmetry: Symmetry, a: PyTree, b: PyTree, permutations: Permutations
) -> Float[np.ndarray, " permutations"]:
    """⟨a, π(b)⟩ over all arrays that carry a group, of each of many permutations."""

    @jax.jit
    def compiled(a, b, permutations):
        fixed = symmetry.split(a)

        def one(permutation):
            moved = symmetry.split(symmetry.apply(permutation, b))
            return sum(map(_inner, fixed, moved))

        return jax.lax.map(one, permutations)

    return np.asarray(compiled(a, b, permutations), np.float64)


def _inner(x: Array, y: Array) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    x, y = x.astype(wide), y.astype(wide)
    return vdot(x, y).real
