"""Matching by the loss: straight-through gradients at the midpoint of two networks."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from combinability._checks import check_any_key, check_bijections, check_count
from combinability._combine import check_like, combine
from combinability.matching._ascent import Ascent
from combinability.matching._match import (
    Groups,
    LeafWeights,
    Matching,
    checked_blocks,
    choose,
    generator,
    result,
    sweep_orders,
    weight_matching,
    weighted,
)
from combinability.matching._objective import Objective, plan
from combinability.permutations import identity
from combinability.symmetry._symmetry import Permutation, Symmetry

_OPTIMIZER = optax.adam(3e-3)

Loss = Callable[[PyTree, Any], Array]


def straight_through_matching(
    symmetry: Symmetry,
    loss: Loss,
    a: PyTree,
    b: PyTree,
    batches: Iterable[Any],
    *,
    key: PRNGKeyArray,
    start: Permutation | None = None,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
    steps: int = 100,
    sweeps: int = 3,
    groups: Groups | None = None,
    fixed: Permutation | None = None,
    leaf_weights: LeafWeights | None = None,
) -> Matching:
    r"""Permute the units of b so that the loss at the midpoint to a is low.

    .. math::

        \min_\pi \; L\bigl(\tfrac12 (a + \pi(b))\bigr), \qquad
        \pi = \arg\max_\pi \, \langle \theta, \pi(b) \rangle

    where the surrogate weights θ, dense and free, start as a. Each step evaluates the
    gradient of the loss of one batch at the midpoint, passes it to θ as if π(b) were θ
    itself, and matches b to the new θ by weights: a few sweeps of coordinate ascent
    from the last permutation.

    The steps take the batches in turn. At the start, after each pass over them and
    after the last step the loss of the current permutation is averaged over all
    batches. The permutation of the lowest average is returned: no worse than the start
    *on these batches*, which should be training data. Evaluate it on other data.

    Args:
        symmetry, a, b, key, groups, fixed, leaf_weights: as in `weight_matching`.
        loss: `loss(variables, batch)`, a real scalar; deterministic. Compiled once for
            the same symmetry, loss, optimizer and shapes, as by `jax.jit`.
        batches: an iterable of what `loss` takes, any trees; all are held in memory.
        start: the permutation to start from; None: that of `weight_matching`.
        optimizer: of the surrogate weights; the blocks of weights that carry groups are
            its parameters. Adam with learning rate 0.003 by default.
        steps: number of steps; 100.
        sweeps: the largest number of sweeps over the groups in each step; 3.

    Returns:
        The permutation of b; as objective its loss at the midpoint, the lowest of the
        history, which holds the averages described above.

    Raises:
        ValueError, TypeError: if a loss or the surrogate weights are not finite, there
            is no batch, the loss is no real scalar, or as `weight_matching`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> apply = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]
        >>> a = {"in": jnp.array([[1.0, 2.0, -1.0]]), "out": jnp.ones((3, 1))}
        >>> x = jnp.array([[1.0], [-0.5]])
        >>> symmetry = combinability.infer_symmetry(apply, a, x)
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> loss = lambda v, x: jnp.mean((apply(v, x) - apply(a, x)) ** 2)
        >>> found = combinability.straight_through_matching(
        ...     symmetry, loss, a, b, [x], key=jax.random.key(0), steps=2
        ... )
        >>> found.permutation["in"].tolist(), float(found.objective)
        ([1, 2, 0], 0.0)

    References:
        Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 2; starting each matching
        from the last one, and the choice of the best, are ours.
    """
    key = check_any_key(key)
    check_count("steps", steps, 1)
    check_count("sweeps", sweeps, 1)
    matched, held = choose(symmetry, groups, fixed)
    surrogate = list(map(jnp.asarray, checked_blocks(symmetry, a, "a")))
    own = checked_blocks(symmetry, b, "b", leaf_weights)
    check_like(b, a, "b", "a")
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches: expected an iterable of what the loss takes, got "
            f"{type(batches).__name__}; pass a single batch x as [x]"
        )
    batches = tuple(batches)
    if not batches:
        raise ValueError("batches: expected at least one batch, got none")
    given = check_bijections(symmetry, start or {}, "start")
    if start is None:
        options = {"groups": groups, "fixed": fixed, "leaf_weights": leaf_weights}
        given = weight_matching(symmetry, a, b, key=key, **options).permutation
    permutation = {**identity(symmetry), **given, **held}

    terms = plan(symmetry, matched)

    def mean_loss() -> float:
        losses = [_loss(symmetry, loss, permutation, a, b, batch) for batch in batches]
        return float(np.mean(jax.device_get(losses)))

    best, history, state = permutation, [mean_loss()], optimizer.init(surrogate)
    if not np.isfinite(history[0]):
        raise ValueError(
            f"loss: expected a finite number at the midpoint of a and the permuted b, "
            f"got {history[0]}; pass a better start, or look for NaN in batches"
        )
    rng = generator(key)
    for number in range(steps):
        surrogate, state, finite = _step(
            symmetry, loss, optimizer, surrogate, state, permutation, a, b,
            batches[number % len(batches)],
        )  # fmt: skip
        if not finite:
            raise ValueError(
                f"optimizer: the surrogate weights are not finite after step {number}; "
                f"lower its learning rate"
            )
        target = weighted(symmetry, list(map(np.asarray, surrogate)), leaf_weights)
        ascent = Ascent(Objective(terms, target, own), permutation)
        permutation = result(ascent.run(sweep_orders(rng, terms, sweeps))).permutation
        if number + 1 == steps or (number + 1) % len(batches) == 0:
            history.append(mean_loss())
            if history[-1] < np.nanmin(history[:-1]):
                best = permutation
    return Matching(dict(best), np.nanmin(history), np.array(history))


def _midpoint(symmetry, permutation, a, b) -> PyTree:
    return combine(a, symmetry.apply(permutation, b), 0.5)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss(symmetry, loss, permutation, a, b, batch) -> Array:
    """The loss at the midpoint, for one batch."""
    value = loss(_midpoint(symmetry, permutation, a, b), batch)
    found = [(x.shape, x.dtype) for x in map(jnp.asarray, jax.tree.leaves(value))]
    if len(found) != 1 or found[0][0] != ():
        shapes = ", ".join(str(shape) for shape, _ in found) or "nothing"
        raise ValueError(
            f"loss: expected one number for each batch, got {shapes}; average over the "
            f"batch, and leave out auxiliary results"
        )
    if not jnp.issubdtype(found[0][1], jnp.floating):
        raise TypeError(f"loss: expected a real number, got {found[0][1]}")
    return value


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(symmetry, loss, optimizer, surrogate, state, permutation, a, b, batch):
    """A gradient step of the surrogate weights; whether they are finite."""
    middle = _midpoint(symmetry, permutation, a, b)

    def of_blocks(blocks):
        return loss(symmetry.join(blocks, middle), batch)

    # Half of what stands for θ enters the midpoint.
    gradients = jax.tree.map(
        lambda gradient, weights: (gradient / 2).astype(weights.dtype),
        jax.grad(of_blocks)(symmetry.split(middle)),
        surrogate,
    )
    updates, state = optimizer.update(gradients, state, surrogate)
    moved: Any = optax.apply_updates(surrogate, updates)
    finite = jnp.stack([jnp.isfinite(weights).all() for weights in moved])
    return moved, state, finite.all()
