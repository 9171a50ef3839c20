"""Matching by the loss: straight-through gradients at the midpoint of two networks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from combinability._checks import check_bijections, check_count
from combinability._combine import check_like, combine
from combinability._keys import check_any_key
from combinability._permutation import identity
from combinability.matching._checks import checked_blocks
from combinability.matching._host import Ascent
from combinability.matching._matching import Matching
from combinability.matching._terms import plan
from combinability.matching._weights import climb, sweep_orders, weight_matching
from combinability.symmetry._symmetry import Permutation, Symmetry

_OPTIMIZER = optax.adam(3e-3)

Loss = Callable[[PyTree, Any], Array]


def straight_through_matching(
    symmetry: Symmetry,
    loss: Loss,
    a: PyTree,
    b: PyTree,
    batches: Sequence[Any],
    *,
    key: PRNGKeyArray,
    start: Permutation | None = None,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
    steps: int = 100,
    sweeps: int = 3,
) -> Matching:
    r"""Permutes the units of b so that the loss halfway to a is low.

    .. math::

        \min_\pi \; L\bigl(\tfrac12 (a + \pi(b))\bigr), \qquad
        \pi = \arg\max_\pi \, \langle \theta, \pi(b) \rangle

    where the surrogate weights θ, dense and free, start as a. Each step evaluates the
    gradient of the loss of one batch at the midpoint, hands it on to θ as if π(b) were
    θ itself, and matches b to the new θ by weights: a few sweeps of coordinate descent
    from the last permutation.

    Data: the steps take the batches in turn. At the start, after each pass over them
    and after the last step the loss of the permutation that has been reached is
    averaged over all batches (once, if it did not change). The permutation of the
    lowest such average is returned: no worse than the start *on these batches*, which
    should be training data. Judge it on other data.

    Args:
        symmetry: what may be permuted.
        loss: `loss(variables, batch)`, a real scalar; deterministic. Compiled once, for
            batches of equal shapes.
        a: the network to move towards, a tree as the symmetry's.
        b: the network to be moved, likewise.
        batches: what `loss` takes, any trees; all are held in memory.
        key: a key of `jax.random`, for the order of the groups.
        start: the permutation to start from; None: that of `weight_matching`.
        optimizer: of the surrogate weights; the blocks of weights that carry groups are
            its parameters. Adam with learning rate 0.003 by default.
        steps: number of steps.
        sweeps: the largest number of sweeps over the groups in each step.

    Returns:
        The permutation of b; as objective its loss at the midpoint, the lowest of the
        history, which holds the averages described above.

    Raises:
        ValueError: if trees do not match, parameters, a loss or the surrogate weights
            are not finite, there is no batch, the loss is no scalar, a number is out of
            range or the start is no permutation of these groups.
        TypeError: if parameters or losses are not real numbers.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
        >>> a = {"in": jnp.array([[1.0, 2.0, -1.0]]), "out": jnp.ones((3, 1))}
        >>> x = jnp.array([[1.0], [-0.5]])
        >>> symmetry = combinability.infer_symmetry(apply, a, x)
        >>> b = symmetry.apply({"in": jnp.array([2, 0, 1])}, a)
        >>> def loss(variables, x):
        ...     return jnp.mean((apply(variables, x) - apply(a, x)) ** 2)
        >>> matching = combinability.straight_through_matching(
        ...     symmetry, loss, a, b, [x], key=jax.random.key(0), steps=2
        ... )
        >>> matching.permutation["in"].tolist(), float(matching.objective)
        ([1, 2, 0], 0.0)

    References:
        Ainsworth et al., 2022 (arXiv 2209.04836), algorithm 2; starting each matching
        from the last one, and the choice of the best, are ours.
    """
    key = check_any_key(key)
    check_count("steps", steps, 1)
    check_count("sweeps", sweeps, 1)
    surrogate = checked_blocks(symmetry, a, "a")
    parts = checked_blocks(symmetry, b, "b")
    check_like(b, a, "b", "a")
    batches = _checked_batches(batches)
    _check_loss(loss, a, batches[0])
    given = check_bijections(symmetry, start or {}, "start")
    if start is None:
        given = weight_matching(symmetry, a, b, key=key).permutation
    permutation = {**identity(symmetry), **given}

    programs = _compiled(symmetry, loss, optimizer)
    terms = plan(symmetry)
    orders = sweep_orders(key, len(terms.families), steps * sweeps)
    orders = orders.reshape(steps, sweeps, -1)
    record = _Record(lambda found: programs.mean_loss(found, a, b, batches))
    record.add(permutation)
    state = optimizer.init(surrogate)
    for number in range(steps):
        batch = batches[number % len(batches)]
        surrogate, state, finite = programs.step(
            surrogate, state, permutation, a, b, batch
        )
        _check_surrogate(finite, number)
        ascent = Ascent(terms, surrogate, parts, permutation)
        permutation = climb(ascent, orders[number]).permutation
        if number + 1 == steps or (number + 1) % len(batches) == 0:
            record.add(permutation)
    return record.best()


class _Programs(NamedTuple):
    """What is compiled, for one symmetry, loss and optimizer.

    Attributes:
        step: a gradient step of the surrogate weights; whether they are finite.
        loss: of the midpoint, for one batch.
    """

    step: Callable[..., Any]
    loss: Callable[..., Array]

    def mean_loss(
        self, permutation: Permutation, a: PyTree, b: PyTree, batches: Sequence[Any]
    ) -> float:
        """The loss of the midpoint, averaged over batches."""
        losses = [self.loss(permutation, a, b, batch) for batch in batches]
        return float(np.mean(jax.device_get(losses)))


def _compiled(
    symmetry: Symmetry, loss: Loss, optimizer: optax.GradientTransformation
) -> _Programs:
    def midpoint(permutation, a, b):
        return combine(a, symmetry.apply(permutation, b), 0.5)

    @jax.jit
    def midpoint_loss(permutation, a, b, batch):
        return loss(midpoint(permutation, a, b), batch)

    @jax.jit
    def step(surrogate, state, permutation, a, b, batch):
        middle = midpoint(permutation, a, b)

        def of_blocks(blocks):
            return loss(symmetry.join(blocks, middle), batch)

        # Half of what is taken for θ enters the midpoint.
        gradients = jax.tree.map(
            lambda gradient, weights: (gradient / 2).astype(weights.dtype),
            jax.grad(of_blocks)(symmetry.split(middle)),
            surrogate,
        )
        updates, state = optimizer.update(gradients, state, surrogate)
        surrogate = optax.apply_updates(surrogate, updates)
        finite = jnp.stack(
            [jnp.isfinite(weights).all() for weights in jax.tree.leaves(surrogate)]
        )
        return surrogate, state, finite.all()

    return _Programs(step, midpoint_loss)


class _Record:
    """The permutations that were judged, and the best of them."""

    def __init__(self, judge: Callable[[Permutation], float]):
        self._judge = judge
        self._last: dict[str, np.ndarray] | None = None
        self._best: Permutation = {}
        self._history: list[float] = []

    def add(self, permutation: Permutation) -> None:
        """Judges a permutation, unless it is the last one again."""
        new = {name: np.asarray(index) for name, index in permutation.items()}
        if self._last is not None and all(
            np.array_equal(index, self._last[name]) for name, index in new.items()
        ):
            self._history.append(self._history[-1])
            return
        value = self._judge(permutation)
        if self._last is None and not np.isfinite(value):
            raise ValueError(
                f"loss: expected a finite number halfway between a and the permuted b, "
                f"got {value}; pass a better start, or look for NaN in batches"
            )
        if self._last is None or value < np.nanmin(self._history):
            self._best = dict(permutation)
        self._last = new
        self._history.append(value)

    def best(self) -> Matching:
        """The matching with the lowest loss."""
        history = np.array(self._history)
        permutation = {name: jnp.asarray(index) for name, index in self._best.items()}
        return Matching(permutation, np.nanmin(history), history)


def _checked_batches(batches: Any) -> tuple[Any, ...]:
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches: expected a sequence of what the loss takes, got "
            f"{type(batches).__name__}; a single batch x is given as [x]"
        )
    found = tuple(batches)
    if not found:
        raise ValueError("batches: expected at least one batch, got none")
    return found


def _check_loss(loss: Loss, variables: PyTree, batch: Any) -> None:
    result = jax.eval_shape(loss, variables, batch)
    found = [(x.shape, x.dtype) for x in jax.tree.leaves(result)]
    if len(found) != 1 or found[0][0] != ():
        shapes = ", ".join(str(shape) for shape, _ in found) or "nothing"
        raise ValueError(
            f"loss: expected one number for each batch, got {shapes}; average over the "
            f"batch, and leave out auxiliary results"
        )
    if not jnp.issubdtype(found[0][1], jnp.floating):
        raise TypeError(f"loss: expected a real number, got {found[0][1]}")


def _check_surrogate(finite: Array, number: int) -> None:
    if not finite:
        raise ValueError(
            f"optimizer: the surrogate weights are not finite after step {number}; "
            f"lower its learning rate"
        )
