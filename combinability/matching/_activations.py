"""Matching by activations: units that respond alike to the same inputs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from combinability._checks import check_any_key, check_count
from combinability.matching._ascent import Ascent
from combinability.matching._match import (
    Groups,
    Matching,
    checked_blocks,
    choose,
    generator,
    result,
    sweep_orders,
)
from combinability.matching._moments import CrossMoments, View, stream, views_of
from combinability.matching._objective import Objective, Term, plan
from combinability.matching._starts import annealed
from combinability.symmetry._indexing import take
from combinability.symmetry._symmetry import Block, Permutation, Symmetry

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
    groups: Groups | None = None,
    fixed: Permutation | None = None,
) -> Matching:
    r"""Permute the units of b so that they respond as those of a do.

    With :math:`z_u` the value of unit u of a and :math:`z'_u` that of b, for the same
    inputs,

    .. math::

        \max_\pi \sum_u \operatorname{E}[z_u z'_{\pi(u)}]
        \quad\text{or}\quad
        \max_\pi \sum_u \operatorname{corr}(z_u, z'_{\pi(u)})

    over the units of all values that layers take in and that carry a group, once for
    each layer. E is the mean over all inputs, and over the axes of a value that carry
    no group (positions of an image or a text, steps of a recurrence). The first
    minimises the Euclidean distance of the activations; the second ignores the scale of
    a unit.

    One pass over the batches keeps means, variances and a matrix of units by units for
    each value. Then groups are assigned as by `weight_matching`, which also matches, at
    the end, the groups that no value carries (as inside of `cond` and `while`). Where
    several groups share values (rows and columns of a grid of units), coordinate ascent
    starts from the identity and from soft assignments that harden slowly, and the
    better end is returned.

    Args:
        symmetry: one from `infer_symmetry`, with its trace.
        a, b, key, max_sweeps, groups, fixed: as in `weight_matching`.
        batches: inputs, each an array or a tuple of them, without labels, of the
            shapes that the symmetry was inferred for. Read once.
        similarity: `"inner"` or `"correlation"`. A unit that is constant in all inputs
            has correlation 0 with all others.
        max_units: values with more units (the product, where a value carries several
            groups) are left out, as are those that carry one group twice; at 4096 a
            matrix takes 64 MiB in float32.

    Returns:
        The permutation of b, and the sum above with its history; groups matched by
        weights do not enter that.

    Raises:
        ValueError, TypeError: if the symmetry has no trace, batches do not fit,
            activations are not finite, or as `weight_matching`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.array([[1.0, 2.0, -1.0]]), "out": jnp.ones((3, 1))}
        >>> x, key = jnp.array([[1.0], [-0.5]]), jax.random.key(0)
        >>> symmetry = combinability.infer_symmetry(apply, a, x)
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> match = combinability.activation_matching
        >>> found = match(symmetry, a, b, [x, 2 * x], key=key)
        >>> found.permutation["in"].tolist()
        [1, 2, 0]

    References:
        Li et al., 2015 (arXiv 1511.07543); Ainsworth et al., 2022 (arXiv 2209.04836),
        section 3.1. Several groups on one value, and nested ones, are ours.
    """
    key = check_any_key(key)
    check_count("max_units", max_units, 1)
    check_count("max_sweeps", max_sweeps, 1)
    if similarity not in _SIMILARITIES:
        known = " or ".join(map(repr, _SIMILARITIES))
        raise ValueError(f"similarity: expected {known}, got {similarity!r}")
    matched, held = choose(symmetry, groups, fixed)
    views = views_of(symmetry, max_units)
    weights = checked_blocks(symmetry, a, "a"), checked_blocks(symmetry, b, "b")
    moments = stream(symmetry, views, a, b, batches)
    scores = jax.device_get([_SIMILARITIES[similarity](each) for each in moments])
    objective = SimilarityObjective(symmetry, matched, views, scores)
    seen, found = objective.plan.matched, Matching({}, np.float32(0), np.zeros(1, "f4"))
    if seen:
        ascents = [Ascent(objective, held)]
        # Where a best assignment depends on that of a group which is not inside it.
        if any(
            name not in objective.plan.groups[partner].within
            for name, group in seen.items()
            for term in group.terms
            for partner in term.partners
        ):
            ascents.append(Ascent(objective, annealed(objective, held, steps=20)))
        orders = sweep_orders(generator(key), objective.plan, max_sweeps)
        ends = [ascent.run(orders) for ascent in ascents]
        found = result(max(ends, key=lambda end: end.history[-1]))
    by_weights = Objective(plan(symmetry, set(matched) - seen.keys()), *weights)
    orders = sweep_orders(generator(key), by_weights.plan, max_sweeps)
    ascent = Ascent(by_weights, {**held, **found.permutation}).run(orders)
    return found._replace(permutation=result(ascent).permutation)


class SimilarityObjective(Objective):
    """The sum of the similarities of paired units over all views.

    A view's similarities C[u, v], of unit u of a and unit v of b, take the place of the
    product of two blocks of weights.
    """

    def __init__(self, symmetry, matched, views: Sequence[View], scores: list):
        blocks = tuple(Block(i, view.shape, view.names) for i, view in enumerate(views))
        names = {name for view in views for name in view.names}
        groups = {name: g for name, g in symmetry.groups.items() if name in names}
        seen = Symmetry(groups, (), blocks, ())
        terms = plan(seen, matched, relaxed=True)
        families = tuple(
            tuple(g._replace(terms=tuple(map(_joint, g.terms))) for g in family)
            for family in terms.families
        )
        super().__init__(terms._replace(families=families), [], [])
        self.a = [np.ones((), each.dtype) for each in scores]
        self.b = [
            each.reshape(*view.shape, *view.shape[view.pinned :])
            for view, each in zip(views, scores, strict=True)
        ]
        # Of unit vectors and C, as if the units of a were orthonormal.
        self.magnitudes = [
            float(np.sqrt(np.prod(view.shape)) * np.linalg.norm(each))
            for view, each in zip(views, scores, strict=True)
        ]
        self._views, self._scores = views, scores

    def value(
        self, permutation: Mapping[str, Any], blocks: Iterable[int] | None = None
    ) -> float:
        """The sum of the similarities, over all views or some."""
        total = 0.0
        for number in range(len(self.b)) if blocks is None else blocks:
            view, scores = self._views[number], self._scores[number]
            units = np.arange(view.count).reshape(view.shape[view.pinned :])
            pairs = np.broadcast_to(units, view.shape)
            for name, axes in self.plan.carried[number]:
                pairs = take(pairs, np.asarray(permutation[name]), axes)
            pairs = pairs.reshape(*scores.shape[:2], 1)
            total += float(np.take_along_axis(scores, pairs, -1).sum(dtype=float))
        return total


def _joint(term: Term) -> Term:
    """A term of blocks of a and of b as one of their similarities."""
    inputs, output = term.subscripts.split("->")
    a, b, *partners = inputs.split(",")
    joint = a + "".join(c for c in b if c.isupper())
    return term._replace(subscripts=",".join(["", joint, *partners]) + "->" + output)
