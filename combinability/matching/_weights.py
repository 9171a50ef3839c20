"""Matching by weights: coordinate descent over the groups."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from combinability._checks import check_count
from combinability._keys import check_any_key
from combinability.matching._checks import checked_blocks
from combinability.matching._compiled import ascend
from combinability.matching._host import Ascent
from combinability.matching._matching import Matching
from combinability.matching._starts import pinned_sides
from combinability.matching._terms import plan
from combinability.symmetry._symmetry import Permutation, Symmetry


def weight_matching(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    *,
    key: PRNGKeyArray,
    start: Permutation | Literal["pinned"] | None = None,
    max_sweeps: int = 100,
    assignment: Literal["host", "compiled"] = "host",
) -> Matching:
    r"""Permutes the units of b so that its weights come near to those of a.

    .. math::

        \max_\pi \langle a, \pi(b) \rangle
        \quad\text{which is}\quad \min_\pi \|a - \pi(b)\|

    over all arrays that carry a group. With all groups but one as they are, the best
    permutation of that one is a linear assignment problem; so groups are visited in
    random order, sweep after sweep, until none improves. The objective never falls; the
    end is a local optimum.

    A group within others is assigned for every pair of their units, so that parents are
    matched by the best that their children can do. Where one group is on two axes of
    one array (a recurrent kernel), the problem is quadratic: the assignment for its
    derivative is taken if the objective itself rises.

    Args:
        symmetry: what may be permuted.
        a: the network to move towards, a tree as the symmetry's. float16 and bfloat16
            are computed in float32.
        b: the network to be moved, likewise.
        key: a key of `jax.random`, for the order of the groups.
        start: the permutation to start from; groups that it does not name, or None:
            the identity. `"pinned"`: groups that touch inputs and outputs are assigned
            first, then inwards, each by what has been assigned already; mostly faster
            and better than the identity, but the host must assign.
        max_sweeps: the largest number of sweeps.
        assignment: `"host"`: by SciPy, and what did not change is not computed again.
            `"compiled"`: by Optax, one program for `jax.jit` and `jax.vmap` over pairs
            and starts (not over keys: then every group would be tried at every step);
            the history is as long as `max_sweeps` allows, its last value repeated.

    Returns:
        The permutation of b, the objective and its history.

    Raises:
        ValueError: if trees do not match the symmetry, parameters are not finite, a
            number is out of range or the start is no permutation of these groups.
        TypeError: if parameters are not real numbers, or are traced where the host
            assigns.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> key = jax.random.key(0)
        >>> matching = combinability.weight_matching(symmetry, a, b, key=key)
        >>> matching.permutation["in"].tolist(), float(matching.objective)
        ([1, 2, 0], 16.0)

    References:
        Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 1; nested groups and groups
        on two axes are ours.
    """
    key = check_any_key(key)
    check_count("max_sweeps", max_sweeps, 1)
    if assignment not in ("host", "compiled"):
        raise ValueError(
            f"assignment: expected 'host' or 'compiled', got {assignment!r}"
        )
    if start == "pinned" and assignment == "compiled":
        raise ValueError("start: 'pinned' needs assignment='host', got 'compiled'")
    if start != "pinned":
        symmetry.check_permutation(start or {}, "start")
    parts = checked_blocks(symmetry, a, "a"), checked_blocks(symmetry, b, "b")
    terms = plan(symmetry)
    orders = sweep_orders(key, len(terms.families), max_sweeps)
    if assignment == "compiled":
        given = {} if start is None or start == "pinned" else dict(start)
        permutation, history = ascend(terms, *parts, given, orders)
        return Matching(permutation, history[-1], history)
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((parts, orders))):
        raise TypeError(
            "a, b or key: got traced arrays, expected concrete ones where the host "
            "assigns; pass assignment='compiled' inside jit and vmap"
        )
    if start == "pinned":
        return climb(pinned_sides(terms, *parts), orders)
    return climb(Ascent(terms, *parts, start or {}), orders)


def climb(ascent: Ascent, orders: Int[Array, "sweeps families"]) -> Matching:
    """Coordinate descent on the host, in the given order for each sweep."""
    history = ascent.run(np.asarray(orders))
    found = {name: jnp.asarray(index) for name, index in ascent.permutation.items()}
    return Matching(found, history[-1], history)


@functools.partial(jax.jit, static_argnums=(1, 2))
def sweep_orders(
    key: PRNGKeyArray, families: int, sweeps: int
) -> Int[Array, "sweeps families"]:
    """A random order of the families for each sweep."""
    orders = jnp.broadcast_to(jnp.arange(families), (sweeps, families))
    return jax.random.permutation(key, orders, axis=1, independent=True)
