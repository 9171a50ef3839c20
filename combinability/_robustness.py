"""Robustness: how combinations degrade as a matching is perturbed."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from combinability._barrier import barrier
from combinability._checks import (
    Key,
    check_bijections,
    check_count,
    check_key,
    check_number,
)
from combinability._combine import check_networks
from combinability._evaluate import evaluate
from combinability.coefficients import Coefficients, uniform
from combinability.permutations import Permutations, distance, perturb, random
from combinability.symmetry._symmetry import Permutation, Symmetry

# Random permutations whose mean objective is that of chance.
_RANDOM = 32


class Robustness(NamedTuple):
    """Barriers and losses of combinations while a matching is perturbed.

    Barriers and losses are trees like the metric's value; smaller is better.

    Attributes:
        fractions: the fractions of units to move that were asked for.
        moved: the fractions that were moved; with few units not every one is possible.
        lost: the share of the matching's objective above chance that was lost: 0 as
            matched, 1 as random. It means little where the matching itself is hardly
            above chance.
        barrier: heights, (fractions, trials, …).
        losses: of the random combinations, (fractions, trials, samples, …).
        matched: the objective ⟨a, π(b)⟩ of the given permutation, larger is better.
        chance: its mean over random permutations of the same groups.
    """

    fractions: Float[np.ndarray, " fractions"]
    moved: Float[np.ndarray, "fractions trials"]
    lost: Float[np.ndarray, "fractions trials"]
    barrier: PyTree
    losses: PyTree
    matched: float
    chance: float


def robustness(
    metric: Callable[..., PyTree],
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    permutation: Permutation,
    *,
    key: Key,
    fractions: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    trials: int = 5,
    distribution: Coefficients | None = None,
    samples: int = 100,
    points: int = 25,
    args: Sequence[PyTree] = (),
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    r"""Return barriers and losses of combinations while a matching is perturbed.

    The permutation π is perturbed by random transpositions until a fraction of the
    units of each group has moved. For each perturbed permutation π′: the barrier
    between a and π′(b), the losses of random combinations of these, and the share of
    the objective that is lost,

    .. math::

        \frac{\langle a, \pi(b) \rangle - \langle a, \pi'(b) \rangle}
             {\langle a, \pi(b) \rangle - \mathrm{E}_\rho \langle a, \rho(b) \rangle}

    where the inner product is over all arrays that have a group and the expectation,
    over random permutations ρ of the same groups, is a mean of 32 draws.

    Within a trial the transpositions for a larger fraction continue those for a
    smaller one, and all combinations have the same coefficients: differences between
    fractions are differences between matchings.

    Args:
        metric, points, args, batch_size: as in `barrier`.
        symmetry: what may be permuted.
        a, b: variables of the same structure; b is **not yet** permuted.
        permutation: of b towards a, as `match(...).permutation`. Groups that it does
            not name stay as they are and are not perturbed; to perturb some groups of
            an aligned network, give the identity of these.
        key: a PRNG key. The combinations are those of `evaluate` with the same key.
        fractions: of the units of each group to move, each in [0, 1].
        trials: perturbations for each fraction.
        distribution: of the coefficients; by default `uniform()`, element by element.
        samples: combinations for each perturbed matching.
        progress: called as `progress(done, total)` after each perturbed matching.

    Raises:
        ValueError, TypeError: if networks or permutation do not match the symmetry, a
            number is out of range, or as `evaluate`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.eye(4), "out": jnp.ones((4, 1))}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 4)))
        >>> b = symmetry.apply({"in": jnp.array([1, 2, 3, 0])}, a)
        >>> found = combinability.robustness(
        ...     lambda v: jnp.abs(v["in"] - jnp.eye(4)).sum(),
        ...     symmetry, a, b, {"in": jnp.array([3, 0, 1, 2])},
        ...     key=jax.random.key(0), fractions=[0, 0.5], trials=1, samples=2,
        ... )
        >>> found.moved.tolist(), bool(found.losses[0].max() < found.losses[1].min())
        ([[0.0], [0.5]], True)

    References:
        Csiszárik et al., 2023 (arXiv 2308.11511) state that substantial perturbations
        still give working combinations; this protocol is ours.
    """
    symmetry.check(a, "a")
    a, b = check_networks({"a": a, "b": b})
    given = check_bijections(symmetry, permutation, "permutation")
    if not given:
        raise ValueError("permutation: expected at least one group to perturb, got {}")
    fractions = _check_fractions(fractions)
    trials, key = check_count("trials", trials, 1), check_key(key)
    check_count("samples", samples, 1)
    distribution = uniform() if distribution is None else distribution
    # Samples fold their numbers into the key; no sample has this one.
    perturbing, comparing = jax.random.split(jax.random.fold_in(key, 2**32 - 1))
    # The same keys for every fraction: the same transpositions, of which smaller
    # fractions take fewer.
    keys = jax.random.split(perturbing, trials)
    perturbed = stacked([perturb(k, given, f) for f in fractions for k in keys])
    lost, matched, chance = _lost(symmetry, a, b, given, perturbed, comparing)
    found, total = [], len(fractions) * trials
    for number in range(total):
        here = {name: index[number] for name, index in perturbed.items()}
        moved = permuted(symmetry, here, b)
        height = barrier(
            metric, a, moved, points=points, args=args, batch_size=batch_size
        ).height
        losses = evaluate(
            metric, a, moved, distribution,
            key=key, samples=samples, args=args, batch_size=batch_size,
        )  # fmt: skip
        found.append((height, losses))
        if progress is not None:
            progress(number + 1, total)
    lead = (len(fractions), trials)
    heights, losses = jax.tree.map(
        lambda x: x.reshape(*lead, *x.shape[1:]), stacked(found)
    )
    return Robustness(
        np.array(fractions),
        np.asarray(_distances(given, perturbed)).reshape(lead),
        lost.reshape(lead),
        heights,
        losses,
        matched,
        chance,
    )


def _check_fractions(fractions: Sequence[float]) -> list[float]:
    if not isinstance(fractions, Iterable):
        raise TypeError(f"fractions: expected a list of numbers, got {fractions!r}")
    found = [check_number("fractions", each, 0, 1) for each in fractions]
    if not found:
        raise ValueError("fractions: expected at least one number, got none")
    return found


def _lost(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    given: Permutation,
    perturbed: Permutations,
    key: Key,
) -> tuple[Float[np.ndarray, " perturbed"], float, float]:
    """The shares of the objective above chance that are lost, it, and chance."""
    drawn = _randoms(jax.random.split(key, _RANDOM), symmetry)
    random_ones = {name: drawn[name].astype(jnp.int32) for name in given}
    matched, chance, objectives = (
        np.asarray(_objectives(symmetry, a, b, permutations), np.float64)
        for permutations in (stacked([given]), random_ones, perturbed)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = (matched - objectives) / (matched - chance.mean())
    return lost, float(matched[0]), float(chance.mean())


_distances = jax.jit(jax.vmap(distance, (None, 0)))


@functools.partial(jax.jit, static_argnums=1)
def _randoms(keys: Array, symmetry: Symmetry) -> Permutations:
    return jax.vmap(lambda key: random(key, symmetry))(keys)


@functools.partial(jax.jit, static_argnums=0)
def permuted(symmetry: Symmetry, permutation: Permutation, variables: PyTree) -> PyTree:
    """Variables of a permuted network."""
    return symmetry.apply(permutation, variables)


@functools.partial(jax.jit, static_argnums=0)
def _objectives(
    symmetry: Symmetry, a: PyTree, b: PyTree, permutations: Permutations
) -> Float[Array, " permutations"]:
    """⟨a, π(b)⟩ over all arrays that have a group, of each of many permutations."""
    fixed = symmetry.split(a)

    def one(permutation):
        moved = symmetry.split(symmetry.apply(permutation, b))
        return sum(map(_inner, fixed, moved))

    return jax.lax.map(one, permutations)


def _inner(x: Array, y: Array) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    # In full precision on accelerators too, whose default is lower.
    full = jax.lax.Precision.HIGHEST
    return jnp.vdot(x.astype(wide), y.astype(wide), precision=full).real


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Trees as one whose leaves have a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
