"""Matching by activations: units that respond alike to the same inputs."""

import difflib
import functools
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from combinability._checks import check_count
from combinability._keys import check_any_key
from combinability.matching._annealing import annealed
from combinability.matching._checks import checked_blocks
from combinability.matching._cross_moments import CrossMoments, View
from combinability.matching._host import Ascent
from combinability.matching._matching import Matching
from combinability.matching._streaming import stream, views_of
from combinability.matching._terms import Plan, Unit, plan
from combinability.matching._weights import climb, sweep_orders
from combinability.symmetry._symmetry import Block, Symmetry

_SIMILARITIES = {
    "inner": CrossMoments.inner,
    "correlation": CrossMoments.correlation,
}


def activation_matching(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    batches: Iterable[Any],
    *,
    key: PRNGKeyArray,
    similarity: Literal["inner", "correlation"] = "inner",
    max_units: int = 4096,
    max_sweeps: int = 100,
) -> Matching:
    r"""Permutes the units of b so that they respond as those of a do.

    With :math:`z_u` the value of unit u of a and :math:`z'_u` that of b, for the same
    inputs,

    .. math::

        \max_\pi \sum_u \operatorname{E}[z_u z'_{\pi(u)}]
        \quad\text{or}\quad
        \max_\pi \sum_u \operatorname{corr}(z_u, z'_{\pi(u)})

    over the units of all values that layers take in and that carry a group; no layers
    are named. E is the mean over all inputs, and over the axes of a value that carry no
    group (positions of an image or a text, steps of a recurrence). The first is nearest
    activations in the Euclidean norm; the second does not see the scale of a unit. A
    value that several layers take in counts for each.

    One pass over the batches keeps means, variances and a matrix of units by units for
    each such value, so that memory does not grow with their number. Then groups are
    assigned as by `weight_matching`: one that has values to itself at once, one within
    others for every pair of their units. Several that share values otherwise (rows and
    columns of a grid of units) need coordinate descent, from the identity and from soft
    assignments that harden slowly; the better end is kept.

    Values on which one group is twice, or with more than `max_units` units, are left
    out. A group that is then on none (as of values inside of `cond` and `while`) is
    matched by its weights at the end, the others being as they are. Units that no
    input tells apart, such as dead ones, come in any order among themselves.

    Args:
        symmetry: one from `infer_symmetry`.
        a: the network to move towards, a tree as the symmetry's.
        b: the network to be moved, likewise.
        batches: inputs, each an array or a tuple of them, without labels, of the
            shapes that the symmetry was inferred for. Read once.
        key: a key of `jax.random`, for the order of the groups.
        similarity: `"inner"` or `"correlation"`. A unit that is constant in all inputs
            has correlation 0 with all others.
        max_units: the largest number of units of a value (the product, where it carries
            several groups); at 4096 its matrix takes 64 MiB in float32.
        max_sweeps: the largest number of sweeps over the groups.

    Returns:
        The permutation of b, and the sum above with its history; groups matched by
        weights do not enter that.

    Raises:
        ValueError: if the symmetry has no trace, trees do not match it, parameters or
            activations are not finite, there is no batch or one has other shapes, or an
            option is out of range.
        TypeError: if parameters are not real numbers, `batches` is a single array, or
            inputs are of another kind of number.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.array([[1.0, 2.0, -1.0]]), "out": jnp.ones((3, 1))}
        >>> x = jnp.array([[1.0], [-0.5]])
        >>> symmetry = combinability.infer_symmetry(apply, a, x)
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> matching = combinability.activation_matching(
        ...     symmetry, a, b, [x, 2 * x], key=jax.random.key(0)
        ... )
        >>> matching.permutation["in"].tolist()
        [1, 2, 0]

    References:
        Li et al., 2015 (arXiv 1511.07543); Ainsworth et al., 2022 (arXiv 2209.04836),
        section 3.1. Several groups on one value, and nested ones, are ours.
    """
    key = check_any_key(key)
    check_count("max_units", max_units, 1)
    check_count("max_sweeps", max_sweeps, 1)
    _check_similarity(similarity)
    views = views_of(symmetry, max_units)
    ours, theirs = checked_blocks(symmetry, a, "a"), checked_blocks(symmetry, b, "b")
    moments = stream(symmetry, views, a, b, batches)
    seen = _carried(symmetry, views)
    of_a, of_b = _as_blocks(views, similarity, moments)
    found = _match(seen, of_a, of_b, key, max_sweeps)
    if seen.groups.keys() == symmetry.groups.keys():
        return found
    rest = _holding(plan(symmetry), seen.groups)
    orders = sweep_orders(key, len(rest.families), max_sweeps)
    by_weights = climb(Ascent(rest, ours, theirs, found.permutation), orders)
    return found._replace(permutation=by_weights.permutation)


def _carried(symmetry: Symmetry, views: Sequence[View]) -> Symmetry:
    """The groups on the carriers, which become blocks: units of a, pinned, those of b.

    The cross moments C of a carrier's units u are an inner product of "weights": those
    of a are the identity and those of b are C, on one axis that stays (the units of a)
    and on the axes of the carrier's groups. For ⟨1, π(C)⟩ is the sum of C[u, π(u)].
    """
    blocks, names = [], set()
    for number, view in enumerate(views):
        labels = [view.block.labels[axis] for axis in (*view.pinned, *view.units)]
        shape = (*view.pinned_shape, *view.units_shape)
        units = math.prod(view.units_shape)
        blocks.append(Block(number, (units, *shape), (None, *labels)))
        names |= {label for label in labels if label}
    groups = {name: group for name, group in symmetry.groups.items() if name in names}
    return Symmetry(groups, (), tuple(blocks), ())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _as_blocks(
    views: Sequence[View], similarity: str, moments: Sequence[CrossMoments]
) -> tuple[list[Array], list[Array]]:
    """The blocks of `_carried`, of a and of b."""
    a, b = [], []
    for view, each in zip(views, moments, strict=True):
        worth = _SIMILARITIES[similarity](each)
        pinned, units, _ = worth.shape
        shape = (units, *view.pinned_shape, *view.units_shape)
        one = jnp.eye(units, dtype=worth.dtype)[:, None]
        a.append(jnp.broadcast_to(one, (units, pinned, units)).reshape(shape))
        b.append(worth.swapaxes(0, 1).reshape(shape))
    return a, b


def _match(
    seen: Symmetry,
    a: list[Array],
    b: list[Array],
    key: PRNGKeyArray,
    max_sweeps: int,
) -> Matching:
    """From the identity; where groups hang on each other, from annealing as well."""
    if not seen.groups:
        return Matching({}, np.float32(0), np.zeros(1, np.float32))
    terms = plan(seen)
    starts = [Ascent(terms, a, b, {})]
    if any(_coupled(unit, terms) for unit in terms.units.values()):
        soft = annealed(plan(seen, relaxed=True), a, b, steps=20)
        starts.append(Ascent(terms, a, b, soft))
    orders = sweep_orders(key, len(terms.families), max_sweeps)
    ends = [climb(start, orders) for start in starts]
    return max(ends, key=lambda end: float(end.objective))


def _coupled(unit: Unit, terms: Plan) -> bool:
    """Whether a group's best assignment hangs on that of one that is not inside it."""

    def inside(name: str) -> bool:
        return unit.name in (parent for parent, _, _ in terms.units[name].within)

    return any(
        term.before or not all(map(inside, term.partners)) for term in unit.terms
    )


def _holding(terms: Plan, held: Collection[str]) -> Plan:
    """A plan by which some groups stay as they are."""
    families = tuple(
        tuple(unit._replace(terms=()) if unit.name in held else unit for unit in family)
        for family in terms.families
    )
    return terms._replace(families=families)


def _check_similarity(similarity: Any) -> None:
    if similarity not in _SIMILARITIES:
        known = " or ".join(map(repr, _SIMILARITIES))
        nearest = difflib.get_close_matches(str(similarity), _SIMILARITIES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"similarity: expected {known}, got {similarity!r}{hint}")
