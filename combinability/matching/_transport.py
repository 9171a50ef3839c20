"""Soft matching by optimal transport, for networks of equal or different widths.

The units of a group weigh the same, 1 / n each in a and 1 / m each in b. A coupling T
is an (n, m) matrix of how much of each unit of a goes with each of b; with the
couplings of other groups fixed it solves

    max <S, T> + ε H(T)   over T ≥ 0 with rows of sum 1 / n and columns of sum 1 / m

for the scores S of pairs of units and the entropy H. What a squared distance would have
more than S depends on the marginals only, so this is optimal transport of the units'
weights, or activations, at that cost.
"""

import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from combinability._checks import check_count, check_mapping, check_number
from combinability.matching._activations import _joint
from combinability.matching._match import (
    Groups,
    LeafWeights,
    checked_blocks,
    selected_groups,
)
from combinability.matching._moments import (
    each_batch,
    observed,
    traced_inputs,
    views_of,
)
from combinability.matching._objective import GroupTerms, Objective, plan
from combinability.symmetry._symmetry import Block, Symmetry, check_symmetry

_TOLERANCE = 1e-9  # of marginals, relative
_WHILE_ANNEALING, _AT_THE_END = 50, 2000  # iterations of Sinkhorn's algorithm
_MAX_UNITS = 4096

Couplings = dict[str, Float[Array, "*pairs n m"]]


class SoftMatching(NamedTuple):
    """Couplings of the units of two networks.

    Attributes:
        couplings: group name -> coupling (n, m), for `transport`. A group that lies
            within others has one for each pair of their units, and leading axes (units
            of a, units of b) for each parent, or one axis for a pinned parent.
        violation: group name -> the largest deviation of a row's or column's sum from
            1 / n or 1 / m, relative to that, of these very arrays.
    """

    couplings: Couplings
    violation: dict[str, float]


def soft_matching(
    symmetry: Symmetry,
    a: PyTree,
    b: PyTree,
    *,
    symmetry_b: Symmetry | None = None,
    batches: Iterable[Any] | None = None,
    regularisation: float = 0.05,
    steps: int = 20,
    groups: Groups | None = None,
    fixed: Mapping[str, Any] | None = None,
    leaf_weights: LeafWeights | None = None,
) -> SoftMatching:
    r"""Couple the units of two networks by entropic optimal transport.

    .. math::

        \max_T \langle S, T \rangle + \varepsilon H(T) \quad\text{over}\quad
        T \mathbf{1} = \tfrac{1}{n} \mathbf{1},\;
        T^\top \mathbf{1} = \tfrac{1}{m} \mathbf{1},\; T \ge 0

    for each group in turn, by Sinkhorn's algorithm in the log domain and in float64,
    while ε falls. S are inner products of the weights of a's and b's units, the other
    groups being coupled as they are so far, or of their activations. At the end T is
    rounded onto its marginals. As ε tends to 0, T between networks of equal width
    becomes a permutation matrix, divided by n.

    Nothing is drawn at random. All groups start evenly coupled; what inputs and outputs
    say about their neighbours comes first, and spreads.

    Args:
        symmetry: what can be permuted in a.
        a: the network to move towards, a tree as the symmetry's.
        b: the network to be moved.
        symmetry_b: what can be permuted in b, if its groups have other sizes; inferred
            from the same function. Networks of different depth have no groups in
            common and are not supported; see the guide.
        batches: inputs, as for `activation_matching`, to couple by activations: by the
            mean products of units over all inputs. By weights if None. Groups that no
            layer's input carries are coupled by weights.
        regularisation: ε, relative to how far the best score of a unit is above its
            mean score, on average over the units; 0.05. It falls to this from 1, or
            stays if it is larger.
        steps: the number of values of ε, each a pass over all groups; 20.
        groups: the groups to couple, by name or by a predicate
            `groups(name, group) -> bool`; None: all that `fixed` does not name. The
            others stay, unit by unit, and must have equal sizes in a and b.
        fixed: couplings of groups that are held while the others are found, as an
            earlier call returned them.
        leaf_weights: the weights of leaves in S, as in `match`; of couplings by
            weights.

    Returns:
        The couplings, fixed ones included, and how far they are from their marginals.

    Raises:
        ValueError: if trees do not match their symmetry, the two networks differ in
            more than the sizes of groups, parameters or activations are not finite,
            groups, couplings, leaves or batches do not fit, there is no batch, or a
            number is out of range.
        TypeError: if parameters are not real numbers, or `batches` is an array.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.eye(2, 3), "out": jnp.array([[1.0], [2.0], [3.0]])}
        >>> symmetry = combinability.infer_symmetry(apply, a, jnp.ones((1, 2)))
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> found = combinability.soft_matching(symmetry, a, b, regularisation=0.001)
        >>> (3 * found.couplings["in"]).round(3).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        >>> moved = combinability.transport(symmetry, found.couplings, b)
        >>> fused = combinability.combine(a, moved, 0.5)
        >>> bool(jnp.allclose(fused["out"], a["out"], atol=1e-3))
        True

    References:
        Singh and Jaggi, 2020 (arXiv 1910.05653); entropic transport: Cuturi, 2013;
        rounding: Altschuler, Weed and Rigollet, 2017, algorithm 2. All groups of a
        network at once, nested ones included, are ours.
    """
    check_count("steps", steps, 1)
    regularisation = check_number("regularisation", regularisation, above=0)
    other = symmetry if symmetry_b is None else symmetry_b
    _check_alike(symmetry, other)
    held = _checked_couplings("fixed", symmetry, other, fixed or {})
    matched = selected_groups(symmetry, groups, held)
    weights = Objective(
        plan(symmetry, matched, relaxed=True),
        checked_blocks(symmetry, a, "a", leaf_weights),
        checked_blocks(other, b, "b", leaf_weights),
    )
    scored = {name: (weights, group) for name, group in weights.plan.matched.items()}
    if batches is not None:
        scored |= _by_activations(symmetry, other, a, b, batches, matched)
    soft = {
        name: _start(symmetry, other, name, matched, held) for name in symmetry.groups
    }
    found = {}
    potentials = {name: np.zeros(soft[name].shape[:-1]) for name in scored}
    first = max(1.0, regularisation)
    for step, epsilon in enumerate(np.geomspace(first, regularisation, steps)):
        iterations = _AT_THE_END if step == steps - 1 else _WHILE_ANNEALING
        for name, (objective, group) in scored.items():
            scores = objective.total(
                group.terms,
                lambda term, objective=objective: objective.scores(term, {}, soft),
            )
            found[name], potentials[name] = _coupling(
                scores.astype(float), epsilon, potentials[name], iterations
            )
            soft[name] = (found[name] * found[name].shape[-2]).astype(np.float32)
    couplings = {name: jnp.asarray(x) for name, x in {**held, **found}.items()}
    return SoftMatching(couplings, {n: _violation(t) for n, t in couplings.items()})


def transport(
    symmetry: Symmetry,
    couplings: Mapping[str, Any],
    b: PyTree,
    *,
    symmetry_b: Symmetry | None = None,
) -> PyTree:
    r"""Move the units of a network by couplings, into the shape of another network.

    .. math::

        W' = \sqrt{n_l m_l} \sqrt{n_{l-1} m_{l-1}}\; T_l W T_{l-1}^\top

    along both axes of a matrix, and likewise along every axis that carries a group.
    Where both widths are n the factor is n: each unit of the result is a weighted
    average of b's units, as in OTFusion, and a permutation moves b as `Symmetry.apply`
    does. Between different widths this factor keeps the size of sums over units, while
    averages on both sides would shrink them in a narrower network.
    `combine(a, transport(…), 0.5)` is the fused network.

    A network of m units that is one of n with units repeated, and their outgoing
    weights divided, is moved back to the same function if what acts on single units is
    positively homogeneous (ReLU, products). After BatchNorm, use `reset_batch_norm`.

    Args:
        symmetry: that of the network in whose shape the result is.
        couplings: from `soft_matching`; groups that are not named stay.
        b: the network to be moved.
        symmetry_b: that of b, if its groups have other sizes.

    Returns:
        A tree like b, with the shapes of `symmetry`.

    Raises:
        ValueError: if b does not match its symmetry, the two differ in more than the
            sizes of groups, a group is unknown, or a coupling has another shape, is
            not finite or negative, or is missing where sizes differ.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jax.nn.relu(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.array([[1.0, -1.0]]), "out": jnp.array([[3.0], [2.0]])}
        >>> b = {"in": jnp.repeat(a["in"], 2, 1), "out": jnp.repeat(a["out"], 2, 0) / 2}
        >>> x = jnp.array([[5.0], [-5.0]])
        >>> of, wide = (combinability.infer_symmetry(apply, v, x) for v in (a, b))
        >>> found = combinability.soft_matching(
        ...     of, a, b, symmetry_b=wide, regularisation=1e-3
        ... )
        >>> moved = combinability.transport(of, found.couplings, b, symmetry_b=wide)
        >>> bool(jnp.allclose(apply(moved, x), apply(b, x), atol=1e-2))
        True

    References:
        Singh and Jaggi, 2020 (arXiv 1910.05653), algorithm 1, which divides both sides
        by the marginals of the target; the factor for different widths is ours.
    """
    other = symmetry if symmetry_b is None else symmetry_b
    _check_alike(symmetry, other)
    leaves = list(map(jnp.asarray, other.check(b, "b")))
    matrices = _matrices(symmetry, other, couplings)
    found = [
        leaf if leaf.shape == target.shape else jnp.zeros(target.shape, leaf.dtype)
        for leaf, target in zip(leaves, symmetry.leaves, strict=True)
    ]
    for block, target in zip(other.partition, symmetry.partition, strict=True):
        leaf = block.leaf
        part = _moved(symmetry, block, block.take(leaves[leaf]), matrices)
        if part.shape != target.shape:
            raise ValueError(
                f"symmetry_b: expected {other.leaves[leaf].path!r} to differ only in "
                f"the sizes of groups, got blocks of shape {part.shape} and "
                f"{target.shape}"
            )
        found[leaf] = target.put(found[leaf], part.astype(leaves[leaf].dtype))
    return jax.tree.unflatten(jax.tree.structure(b), found)


def _check_alike(symmetry: Symmetry, other: Symmetry) -> None:
    """Raise a ValueError unless two networks differ only in the sizes of groups."""
    check_symmetry("symmetry", symmetry)
    check_symmetry("symmetry_b", other)
    if symmetry is other:
        return
    kinds = [
        (
            [leaf.path for leaf in each.leaves],
            [(block.leaf, block.labels) for block in each.partition],
            {name: group.within for name, group in each.groups.items()},
        )
        for each in (symmetry, other)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            "symmetry_b: expected that of a network with the same leaves and groups as "
            "of symmetry, inferred from the same function; networks of different depth "
            "have other groups (see the guide)"
        )
    carried = {block.leaf for block in symmetry.blocks}
    for number, (x, y) in enumerate(zip(symmetry.leaves, other.leaves, strict=True)):
        if x.shape != y.shape and number not in carried:
            raise ValueError(
                f"symmetry_b: expected {x.path!r} to differ only in the sizes of "
                f"groups, got shape {y.shape} for {x.shape}"
            )


def _shape(symmetry: Symmetry, other: Symmetry, name: str) -> tuple[int, ...]:
    """The shape of the coupling of a group."""
    first, second = symmetry.groups[name], other.groups[name]
    outer = []
    for parent, n, m in zip(first.within, first.blocks, second.blocks, strict=True):
        outer += [n, m] if parent in symmetry.groups else [n]
    return (*outer, first.size, second.size)


def _start(
    symmetry: Symmetry,
    other: Symmetry,
    name: str,
    matched: Collection[str],
    held: Mapping[str, Any],
) -> Float[np.ndarray, "*pairs n m"]:
    """A coupling of a group with rows of sum 1: even, fixed, or unit by unit."""
    shape = _shape(symmetry, other, name)
    if name in held:
        return np.asarray(held[name] * shape[-2], np.float32)
    if name in matched:
        return np.full(shape, 1 / shape[-1], np.float32)
    if shape[-1] != shape[-2]:
        raise ValueError(
            f"groups: expected {name!r} among them or in fixed, as it has {shape[-2]} "
            f"units in a and {shape[-1]} in b"
        )
    return np.broadcast_to(np.eye(shape[-1], dtype=np.float32), shape)


def _by_activations(
    symmetry: Symmetry,
    other: Symmetry,
    a: PyTree,
    b: PyTree,
    batches: Iterable[Any],
    matched: Collection[str],
) -> dict[str, tuple[Objective, GroupTerms]]:
    """The objective ⟨T, E[z z']⟩ over the inputs of layers, and the groups in it."""
    views = {view.carrier: view for view in views_of(symmetry, _MAX_UNITS)}
    others = {view.carrier: view for view in views_of(other, _MAX_UNITS)}
    pairs = tuple((view, others[n]) for n, view in views.items() if n in others)
    programs = tuple((each.leaves, each.trace) for each in (symmetry, other))
    total, number = [], 0
    for number, batch in each_batch(batches):
        inputs = (traced_inputs(each, batch, number) for each in (symmetry, other))
        more = _products(programs, pairs, (a, b), tuple(inputs))
        total = jax.tree.map(jnp.add, total, more) if number else more
    scores, blocks = [], []
    for (view, w), each in zip(pairs, total, strict=True):
        shape = (*view.shape, *w.shape[w.pinned :])
        scores.append(np.asarray(each).reshape(shape) / (number + 1))
        blocks.append(Block(len(blocks), view.shape, view.names))
        if not np.isfinite(scores[-1]).all():
            named = ", ".join(view.names)
            raise ValueError(
                f"batches: the activations that carry {named} or their "
                "products are not finite"
            )
    names = {label for block in blocks for label in block.labels}
    groups = {name: g for name, g in symmetry.groups.items() if name in names}
    seen = plan(Symmetry(groups, (), tuple(blocks), ()), matched, relaxed=True)
    objective = Objective(seen, [np.ones((), each.dtype) for each in scores], scores)
    return {
        name: (objective, group._replace(terms=tuple(map(_joint, group.terms))))
        for name, group in seen.matched.items()
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _products(programs, pairs, models, inputs) -> list[Float[Array, "pinned n m"]]:
    """Mean products of the units of two networks, for each pair of views."""
    x, y = (
        observed(leaves, trace, model, x)
        for (leaves, trace), model, x in zip(programs, models, inputs, strict=True)
    )
    taken = ((v.take(x[v.carrier]), w.take(y[w.carrier])) for v, w in pairs)
    highest = jax.lax.Precision.HIGHEST
    return [
        jnp.einsum("psu,psv->puv", x, y, precision=highest) / x.shape[1]
        for x, y in taken
    ]


def _coupling(
    scores: Float[np.ndarray, "*pairs n m"],
    epsilon: float,
    start: Any,
    iterations: int,
) -> tuple[Float[np.ndarray, "*pairs n m"], Any]:
    """The entropic coupling for some scores, rounded onto its marginals.

    `start` are the potentials of the rows for a larger ε; returns those for this one.
    """
    n, m = scores.shape[-2:]
    scale = (scores.max(axis=-1) - scores.mean(axis=-1)).mean() or 1.0
    with jax.enable_x64(True):
        given = np.float64(epsilon), np.asarray(start), np.int64(iterations)
        found, potentials = jax.device_get(_sinkhorn(scores / scale, *given))
    found = found * np.minimum(1 / (n * found.sum(-1, keepdims=True)), 1)
    found = found * np.minimum(1 / (m * found.sum(-2, keepdims=True)), 1)
    rows = np.maximum(1 / n - found.sum(-1, keepdims=True), 0)
    columns = np.maximum(1 / m - found.sum(-2, keepdims=True), 0)
    missing = rows.sum(-2, keepdims=True)
    return found + rows * columns / np.where(missing > 0, missing, 1), potentials


@jax.jit
def _sinkhorn(
    scores: Float[Array, "*pairs n m"],
    epsilon: Float[Array, ""],
    start: Float[Array, "*pairs n"],
    iterations: Int[Array, ""],
) -> tuple[Float[Array, "*pairs n m"], Float[Array, "*pairs n"]]:
    """exp((S + f + g) / ε) with columns of sum 1 / m and rows of nearly 1 / n, and f.

    At most `iterations` iterations, from f = start on.
    """
    n, m = scores.shape[-2:]

    def columns(f):
        sums = jax.nn.logsumexp((scores + f[..., None]) / epsilon, axis=-2)
        return -epsilon * (sums + jnp.log(m))

    def goes_on(state):
        _, error, count = state
        return (error > _TOLERANCE) & (count < iterations)

    def step(state):
        f, _, count = state
        sums = jax.nn.logsumexp((scores + columns(f)[..., None, :]) / epsilon, axis=-1)
        new = -epsilon * (sums + jnp.log(n))
        return new, jnp.abs(jnp.expm1((f - new) / epsilon)).max(), count + 1

    f, _, _ = jax.lax.while_loop(goes_on, step, (start, jnp.inf, 0))
    coupling = (scores + f[..., None] + columns(f)[..., None, :]) / epsilon
    return jnp.exp(coupling), f


def _violation(coupling: Any) -> float:
    coupling = np.asarray(coupling, float)
    n, m = coupling.shape[-2:]
    rows, columns = n * coupling.sum(-1) - 1, m * coupling.sum(-2) - 1
    return float(max(np.abs(rows).max(), np.abs(columns).max()))


def _checked_couplings(
    argument: str, symmetry: Symmetry, other: Symmetry, couplings: Mapping[str, Any]
) -> Couplings:
    """Couplings as arrays; raises where they do not fit the groups."""
    check_mapping(argument, couplings, "group -> coupling")
    for name, coupling in couplings.items():
        if name not in symmetry.groups:
            known = ", ".join(symmetry.groups)
            raise ValueError(f"{argument}: no group {name!r}; the groups are {known}")
        shape = _shape(symmetry, other, name)
        if jnp.shape(coupling) != shape:
            raise ValueError(
                f"{argument}[{name!r}]: expected shape {shape}, got "
                f"{jnp.shape(coupling)}"
            )
        if not isinstance(coupling, Tracer) and not (
            np.isfinite(coupling).all() and (np.asarray(coupling) >= 0).all()
        ):
            raise ValueError(
                f"{argument}[{name!r}]: expected finite numbers of at least 0"
            )
    return {name: jnp.asarray(coupling) for name, coupling in couplings.items()}


def _matrices(
    symmetry: Symmetry, other: Symmetry, couplings: Mapping[str, Any]
) -> dict[str, Array]:
    """What each group's axes are multiplied by."""
    checked = _checked_couplings("couplings", symmetry, other, couplings)
    matrices = {
        name: coupling * np.sqrt(coupling.shape[-1] * coupling.shape[-2])
        for name, coupling in checked.items()
    }
    for name, group in symmetry.groups.items():
        shape = _shape(symmetry, other, name)
        if name not in matrices and shape[-1] != shape[-2]:
            raise ValueError(
                f"couplings: expected one for group {name!r}, which has {shape[-1]} "
                f"units in b and {group.size} in the result"
            )
    return matrices


def _moved(
    symmetry: Symmetry, block: Block, part: Array, matrices: Mapping[str, Array]
) -> Array:
    """A block multiplied by a group's matrix along each axis that carries one."""
    labels = [label or "" for label in block.labels]
    old = [chr(ord("a") + axis) for axis in range(part.ndim)]
    new = [
        letter.upper() if label in matrices else letter
        for letter, label in zip(old, labels, strict=True)
    ]
    inputs, operands = ["".join(old)], [part]
    for axis, label in enumerate(labels):
        if label in matrices:
            within = symmetry.groups[label].within
            places = [*map(labels.index, within), axis]
            # A pinned parent has one axis; of one that stays the diagonal is taken.
            free = [name in symmetry.groups for name in (*within, label)]
            pairs = zip(places, free, strict=True)
            inputs.append(
                "".join(new[i] + old[i] if two else old[i] for i, two in pairs)
            )
            operands.append(matrices[label])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum(
        f"{','.join(inputs)}->{''.join(new)}", *operands, precision=highest
    )
