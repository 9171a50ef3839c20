"""Robustness: how much of a matching may be spoilt before combinations fail."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from combinability._arguments import (
    check_bijections,
    check_networks,
    counter,
)
from combinability._barrier import along, height, one_by_one, trace_loss
from combinability._checks import check_count
from combinability._coefficients import uniform
from combinability._combine import combine
from combinability._distribution import Coefficients
from combinability._keys import Key, check_key
from combinability._metric import Metric
from combinability._spoiling import spoil
from combinability.symmetry._symmetry import Permutation, Symmetry


class Robustness(NamedTuple):
    """Barriers and losses of combinations under ever worse matchings.

    Attributes:
        fractions: the fractions of units to move that were asked for, (fractions,).
        moved: the fractions that were moved, (fractions, trials); of a few units not
            every fraction can be.
        lost: what of the matching's objective above chance was lost: 0 as matched, 1 as
            random, (fractions, trials). It means little where the matching itself is
            hardly above chance.
        barrier: heights, a tree like the metric's value, (fractions, trials, …).
        losses: of the random combinations, likewise, (fractions, trials, samples, …).
        matched: the inner product ⟨a, π(b)⟩ of the given permutation.
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
    metric: Callable[[PyTree], PyTree],
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
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    r"""The barrier and random combinations, while a matching is spoilt step by step.

    The permutation π is perturbed by random transpositions until a fraction of the
    units of each group is moved. For each perturbed one, π′, the barrier between a and
    π′(b), the losses of random combinations of these, and the share of the objective
    that is lost:

    .. math::

        \frac{\langle a, \pi(b) \rangle - \langle a, \pi'(b) \rangle}
             {\langle a, \pi(b) \rangle - \mathrm{E}_\rho \langle a, \rho(b) \rangle}

    where the inner product is over all arrays that carry a group and the expectation,
    over random permutations ρ of the same groups, is a mean of 32 draws.

    Within a trial the transpositions for a greater fraction go on from those for a
    lesser one, and all combinations have the same coefficients: differences between
    fractions are differences between matchings.

    Args:
        metric: as in `barrier`: greater is worse. It is traced once; its programs are
            compiled once, for all fractions and trials.
        symmetry: what may be permuted.
        a: variables of a network.
        b: variables of the same structure, **not yet** permuted.
        permutation: of b towards a, as `match(...).permutation`. Groups that it does
            not name stay as they are and are not perturbed; to perturb some groups of
            an aligned network, give the identity of these.
        key: a PRNG key. The combinations are those of `evaluate` with the same key.
        fractions: of the units of each group to move, each in [0, 1].
        trials: perturbations for each fraction.
        distribution: of the coefficients; by default `uniform()`, element by element.
        samples: combinations for each perturbed matching.
        points: points of each way, as in `barrier`.
        batch: points or samples side by side, as in `barrier`.
        progress: called as `progress(done, total)` after each perturbed matching.

    Returns:
        Fractions moved, objective lost, barriers and losses, as NumPy arrays.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if networks or permutation do not match the symmetry, parameters are
            not finite, a number is out of range, or the distribution is one for more
            than two networks.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.eye(4), "out": jnp.ones((4, 1))}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 4)))
        >>> b = symmetry.apply({"in": jnp.array([1, 2, 3, 0])}, a)
        >>> found = combinability.robustness(
        ...     lambda variables: jnp.abs(variables["in"] - jnp.eye(4)).sum(),
        ...     symmetry, a, b, {"in": jnp.array([3, 0, 1, 2])},
        ...     key=jax.random.key(0), fractions=[0, 0.5], trials=1, samples=2,
        ... )
        >>> found.moved.tolist()
        [[0.0], [0.5]]
        >>> float(found.losses[0].max()), bool(found.losses[1].min() > 0)
        (0.0, True)

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
    trials = check_count("trials", trials, 1)
    samples = check_count("samples", samples, 1)
    points, batch = check_count("points", points, 3), check_count("batch", batch, 1)
    distribution = _check_distribution(distribution or uniform(), samples)
    key = check_key(key)
    # Samples fold their numbers into the key; this is the number of none.
    apart = jax.random.fold_in(key, 2**32 - 1)
    spoilt = spoil(symmetry, a, b, given, apart, fractions, trials)
    loss = trace_loss(metric, a)
    losses = along(loss, points, batch)
    drawn = _combinations(loss, distribution, samples, batch)
    move = jax.jit(lambda permutation, model: symmetry.apply(permutation, model))
    done = counter(progress, spoilt.moved.size)
    barriers, clouds = [], []
    for number in range(spoilt.moved.size):
        at = {name: index[number] for name, index in spoilt.permutations.items()}
        moved = move(at, b)
        barriers.append([height(leaf) for leaf in losses(a, moved)])
        clouds.append(drawn(a, moved, key))
        done()
    lead = (len(fractions), trials)
    return Robustness(
        np.array(fractions),
        spoilt.moved.reshape(lead),
        spoilt.lost.reshape(lead),
        _stack(loss, barriers, lead),
        _stack(loss, clouds, lead),
        spoilt.matched,
        spoilt.chance,
    )


def _stack(loss: Metric, found: Sequence[Sequence[Any]], lead: tuple) -> PyTree:
    """A tree like the loss's value, of arrays with leading axes `lead`."""
    leaves = [np.stack(column) for column in zip(*found, strict=True)]
    leaves = [leaf.reshape(*lead, *leaf.shape[1:]) for leaf in leaves]
    return loss.structure.unflatten(leaves)


def _combinations(
    loss: Metric, distribution: Coefficients, samples: int, batch: int
) -> Callable[[PyTree, PyTree, Key], list[np.ndarray]]:
    """A loss on random combinations of any two networks, compiled once."""

    @jax.jit
    def compiled(captured, a, b, key):
        def one(index):
            return loss(captured, combine(a, b, distribution.sample(key, index, a)))

        return one_by_one(one, jnp.arange(samples, dtype=jnp.uint32), batch)

    return lambda a, b, key: list(map(np.asarray, compiled(loss.captured, a, b, key)))


def _check_fractions(fractions: Sequence[float]) -> list[float]:
    try:
        found = [float(fraction) for fraction in fractions]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"fractions: expected a list of numbers, got {fractions!r}"
        ) from error
    if not found or not all(0 <= fraction <= 1 for fraction in found):
        raise ValueError(
            f"fractions: expected at least one number, all in [0, 1], got {found}"
        )
    return found


def _check_distribution(distribution: Any, samples: int) -> Coefficients:
    if not isinstance(distribution, Coefficients):
        raise TypeError(
            "distribution: expected an object with a method `sample`, as uniform() "
            f"gives, got {distribution!r}"
        )
    if getattr(distribution, "models", None) is not None:
        raise ValueError(
            f"distribution: expected one for a pair of networks, got {distribution}"
        )
    spaced = getattr(distribution, "points", None)
    if spaced not in (None, samples):
        raise ValueError(
            f"samples: expected {spaced}, as many as the line has points, got {samples}"
        )
    return distribution
