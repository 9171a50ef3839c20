"""The transformations: memory and law as one Optax optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from rllc import _correction, _inner
from rllc._groups import leaf_groups
from rllc._law import FixedLaw, LearningLaw
from rllc._memory import Memory, MemoryState, decays, linear_combination


class ScaleByRllcState(NamedTuple):
    """State of :func:`scale_by_rllc`.

    Attributes:
        count: updates so far, skipped ones included.
        skipped: updates refused because an inner product was not finite.
        law: L in the user's basis, one row a group.
        gain: the effective learning rate of each law, see :func:`rllc.diagnostics`.
        gram: MᵀM in the basis of the algebra; None under a fixed law.
        explained: the share of the last gradient's squared length that the memory
            explained before it arrived; None under a fixed law.
        memory: the memory's own state.
    """

    count: Int[Array, ""]
    skipped: Int[Array, ""]
    law: Float[Array, "groups k"]
    gain: Float[Array, " groups"]
    gram: Float[Array, "groups k k"] | None
    explained: Float[Array, " groups"] | None
    memory: MemoryState


def scale_by_rllc(
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    memory_dtype: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Replaces gradients by the combination M L of memory units under a learned law.

    At each gradient g, in this order: the law is corrected with the memory of the last
    step, the memory takes in g, and the step is made:

    .. math::

        L \leftarrow L + c_2\, M^+ g, \qquad M \leftarrow M A + g\,b^\top, \qquad
        \text{update} = M L

    If an inner product of g with itself or a unit is not finite, the update is zero,
    memory and law stay as they were, and ``skipped`` counts it.

    Args:
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)``.
        law: how it is combined; by default ``LearningLaw()``.
        memory_dtype: dtype of the stored units; by default that of the parameters.

    Returns:
        The transformation. Its updates point along the gradient: chain it with
        ``optax.scale_by_learning_rate``.

    Raises:
        ValueError: if the law does not fit the memory, or the memory has no Gramian
            where the law needs one.
        TypeError: if memory or law is no such object.

    Example:
        >>> import jax.numpy as jnp, optax, rllc
        >>> optimizer = optax.chain(
        ...     optax.clip_by_global_norm(1.0),
        ...     rllc.scale_by_rllc(rllc.decays(0.0, 0.9), rllc.LearningLaw(0.01)),
        ...     optax.scale_by_learning_rate(0.1),
        ... )
        >>> params = {"w": jnp.ones(3)}
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update({"w": 0.1 * jnp.ones(3)}, state, params)
        >>> updates["w"].round(3)
        Array([-0.041, -0.041, -0.041], dtype=float32)

    References:
        Szegedy et al., 2024 (arXiv 2402.15262); order of the step and guard: ours.
    """
    memory = decays(0.0, 0.9, 0.99) if memory is None else memory
    law = LearningLaw() if law is None else law
    _check_objects(memory, law)
    if memory_dtype is not None:
        memory_dtype = jax.dtypes.canonicalize_dtype(memory_dtype)
        if not jnp.issubdtype(memory_dtype, jnp.inexact):
            raise ValueError(
                f"memory_dtype: expected a floating-point dtype, got {memory_dtype}"
            )
    if isinstance(law, FixedLaw):
        return _fixed(memory, law, memory_dtype)
    return _learning(memory, law, memory_dtype)


def _fixed(memory, law, memory_dtype) -> optax.GradientTransformationExtraArgs:
    def init_fn(params: Any) -> Any:
        _, groups = leaf_groups(law.groups, params)
        coefficients = jnp.asarray(law.start(memory, groups), _law_dtype(params))
        with jax.default_matmul_precision("highest"):
            gain = _correction.fixed_gain(memory, coefficients)
        return ScaleByRllcState(
            count=jnp.zeros([], jnp.int32),
            skipped=jnp.zeros([], jnp.int32),
            law=coefficients,
            gain=gain,
            gram=None,
            explained=None,
            memory=memory.init(params, memory_dtype),
        )

    def update_fn(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        _check_same_tree(updates, memory.units(state.memory))
        groups, _ = leaf_groups(law.groups, updates)
        new = memory.update(updates, state.memory, params, **extra_args)
        step = _step(memory.units(new), state.law, groups)
        return jax.tree.map(_cast, step, updates), state._replace(
            count=jnp.asarray(optax.safe_increment(state.count)),
            memory=jax.tree.map(_cast, new, state.memory),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _learning(memory, law, memory_dtype) -> optax.GradientTransformationExtraArgs:
    geometry = _correction.geometry(memory, law)

    def init_fn(params: Any) -> Any:
        _, groups = leaf_groups(law.groups, params)
        dtype = _law_dtype(params)
        initial = jnp.asarray(law.start(memory, groups), dtype)
        gram = jnp.zeros((groups, memory.size, memory.size), dtype)
        with jax.default_matmul_precision("highest"):
            gain = geometry.gain(initial, initial, gram)
        return ScaleByRllcState(
            count=jnp.zeros([], jnp.int32),
            skipped=jnp.zeros([], jnp.int32),
            law=initial,
            gain=gain,
            gram=gram,
            explained=jnp.zeros((groups,), dtype),
            memory=memory.init(params, memory_dtype),
        )

    def update_fn(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        units = memory.units(state.memory)
        _check_same_tree(updates, units)
        leaves, groups = leaf_groups(law.groups, updates)
        dtype = state.law.dtype
        products, square = _inner.gradient_products(
            units, updates, leaves, groups, dtype
        )
        with jax.default_matmul_precision("highest"):
            gram = _current_gram(geometry, law, state, units, leaves)
            corrected = _correction.correct(
                geometry,
                law,
                _rate(law, state.count),
                state.law,
                jnp.asarray(law.start(memory, groups), dtype),
                gram,
                products,
                square,
            )
            advanced = geometry.advance(gram, products, square)
        new = memory.update(updates, state.memory, params, **extra_args)
        finite = _all_finite(products, square, gram, advanced, corrected.law)
        if not geometry.recursive:
            # Linear units are finite where the gradient is; others may fail alone.
            finite &= _all_finite(*jax.tree.leaves(new))

        # That the units are written only once the inner products are known is what
        # lets XLA update donated buffers in place.
        def keep(new, old):
            return jnp.where(finite, _cast(new, old), old)

        kept = jax.tree.map(keep, new, state.memory)
        step = _step(memory.units(kept), corrected.law, leaves)
        step = jax.tree.map(lambda s: jnp.where(finite, s, jnp.zeros_like(s)), step)
        return jax.tree.map(_cast, step, updates), ScaleByRllcState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            skipped=jnp.where(
                finite, state.skipped, optax.safe_increment(state.skipped)
            ),
            law=keep(corrected.law, state.law),
            gain=keep(corrected.gain, state.gain),
            gram=keep(advanced, state.gram),
            explained=keep(corrected.explained, state.explained),
            memory=kept,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _rate(law: LearningLaw, count: Array) -> Any:
    return law.rate(count) if callable(law.rate) else law.rate


def _current_gram(geometry, law, state, units, leaves):
    """The Gram matrix of the stored units: carried, or measured where it must be."""

    def measure(units):
        groups, dtype = len(state.law), state.law.dtype
        return geometry.measured(_inner.gram_matrix(units, leaves, groups, dtype))

    if not geometry.recursive or not _accurate(units, state.law.dtype):
        return measure(units)
    due = (state.count + 1) % law.refresh == 0
    return jax.lax.cond(due, measure, lambda units: state.gram, units)


def _accurate(units, dtype) -> bool:
    """Whether units are stored precisely enough to obey the recursion."""
    resolution = jnp.finfo(dtype).eps
    return all(jnp.finfo(x.dtype).eps <= resolution for x in jax.tree.leaves(units))


def _step(units, law: Float[Array, "groups k"], leaves: tuple[int, ...]):
    """M L, each leaf by its group's law, in at least float32."""
    steps = [
        linear_combination(column, tuple(law[group]))
        for group, *column in zip(
            leaves, *(jax.tree.leaves(unit) for unit in units), strict=True
        )
    ]
    return jax.tree.unflatten(jax.tree.structure(units[0]), steps)


def _cast(new: Array, old: Array) -> Array:
    """The value in the dtype of another; what would overflow there is clipped."""
    if new.dtype == old.dtype:
        return new
    if jnp.issubdtype(old.dtype, jnp.floating):
        limit = float(jnp.finfo(old.dtype).max)
        if limit < float(jnp.finfo(new.dtype).max):
            new = jnp.clip(new, -limit, limit)
    return new.astype(old.dtype)


def _all_finite(*arrays: Array) -> Bool[Array, ""]:
    inexact = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(array).all() for array in inexact]).all()


def _law_dtype(params: optax.Params) -> Any:
    """The real dtype of the parameters, at least float32."""
    dtype = jnp.dtype(jnp.float32)
    for leaf in jax.tree.leaves(params):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            dtype = jnp.promote_types(dtype, jnp.finfo(leaf.dtype).dtype)
    return dtype


def _check_objects(memory: Any, law: Any) -> None:
    if not isinstance(memory, Memory):
        raise TypeError(
            "memory: expected an object such as decays(0.0, 0.9), with the members of "
            f"rllc.Memory, got {memory!r}"
        )
    if not isinstance(law, LearningLaw | FixedLaw):
        raise TypeError(
            f"law: expected a LearningLaw or a FixedLaw object, got {law!r}"
        )
    law.check(memory)


def _check_same_tree(updates: Any, units: tuple[Any, ...]) -> None:
    """Refuses gradients that differ in structure or shape from the stored units."""
    got = jax.tree_util.tree_leaves_with_path(updates)
    expected = jax.tree_util.tree_leaves_with_path(units[0])
    for (path, leaf), (expected_path, unit) in zip(got, expected, strict=False):
        if path != expected_path or leaf.shape != unit.shape:
            raise ValueError(
                "updates: expected the structure and shapes of the parameters given to "
                f"init, got {jax.tree_util.keystr(path)} of shape {leaf.shape} where "
                f"they have {jax.tree_util.keystr(expected_path)} of shape {unit.shape}"
            )
    if jax.tree.structure(updates) != jax.tree.structure(units[0]):
        raise ValueError(
            "updates: expected the structure of the parameters given to init, "
            f"{len(expected)} arrays in {jax.tree.structure(units[0])}, got "
            f"{len(got)} in {jax.tree.structure(updates)}"
        )
