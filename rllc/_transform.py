"""The transformations: memory and law as one Optax optimizer."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from rllc import _correction
from rllc._inner import (
    AxisName,
    axis_names,
    gram_matrix,
    gram_pairs,
    inner_products,
    leaf_groups,
    listed,
    wide,
)
from rllc._jaxpr import stored, vary_as, varying_axes
from rllc._law import FixedLaw, LearningLaw
from rllc._memory import (
    LinearMemory,
    Memory,
    MemoryState,
    TransformationUnits,
    TransformationUnitsState,
    at_least_float32,
    decays,
    linear_combination,
    write,
)
from rllc._solver import AT_LEAST_0, PseudoInverse, Scalar, check_scalar


class ScaleByRllcState(NamedTuple):
    """State of :func:`scale_by_rllc`.

    Attributes:
        count: updates so far, skipped ones included.
        skipped: updates that were skipped because something was not finite.
        consecutive_skips: how many updates in a row were skipped last.
        law: L in the user's basis, one row per group.
        gain: the effective learning rate of each law, see :func:`rllc.diagnostics`.
        gram: MᵀM in the basis of the algebra; None under a fixed law.
        explained: the share of the last gradient's squared length that the memory
            explained before it arrived; None under a fixed law.
        memory: the memory's own state.
    """

    count: Int[Array, ""]
    skipped: Int[Array, ""]
    consecutive_skips: Int[Array, ""]
    law: Float[Array, "groups k"]
    gain: Float[Array, " groups"]
    gram: Float[Array, "groups k k"] | None
    explained: Float[Array, " groups"] | None
    memory: MemoryState


class ScaleByRllcAdamState(NamedTuple):
    """State of :func:`scale_by_rllc_adam`.

    Attributes:
        second_moment: decaying mean of squared gradients, real, at least float32.
        rllc: the :class:`ScaleByRllcState`.
    """

    second_moment: Any
    rllc: ScaleByRllcState


@dataclasses.dataclass(frozen=True)
class RootMeanSquare:
    """Division by the root of a decaying mean of squares, as Adam does it."""

    b2: Scalar
    eps: Scalar

    def __post_init__(self):
        _check_b2(self.b2)
        check_scalar("eps", self.eps, lambda eps: eps >= 0, AT_LEAST_0)

    def init(self, params: Any) -> Any:
        def zeros(leaf):
            return jnp.zeros_like(leaf, dtype=wide(jnp.finfo(leaf.dtype).dtype))

        return jax.tree.map(zeros, params)

    def update(self, gradient: Any, second_moment: Any, condition: Any = True) -> Any:
        """The new second moment, meaningful where the condition holds."""

        def update(g, moment):
            g = g.astype(wide(g.dtype, moment.dtype))
            b2 = jnp.asarray(self.b2, moment.dtype)
            b2 = jnp.where(condition, b2, jnp.ones_like(b2))
            square = jnp.real(g * g.conj()) if jnp.iscomplexobj(g) else g * g
            return b2 * moment + (1 - b2) * square

        return jax.tree.map(update, gradient, second_moment)

    def scale(self, gradient: Any, second_moment: Any, steps: Array) -> Any:
        """The gradient divided by the root of the new second moment."""

        def scale(g, moment):
            dtype = moment.dtype
            b2, eps = jnp.asarray(self.b2, dtype), jnp.asarray(self.eps, dtype)
            weight = 1 - b2 ** (steps + 1).astype(dtype)
            root = _correction.root(moment / weight) + eps
            g = g.astype(wide(g.dtype, dtype))
            return g * jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)

        return jax.tree.map(scale, gradient, second_moment)


def transformation(
    memory: Memory,
    law: LearningLaw | FixedLaw,
    memory_dtype: Any | None,
    axis_name: AxisName,
    scaling: RootMeanSquare | None = None,
    finish: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformationExtraArgs:
    """Memory and law as one transformation, and what an optimizer does to its step.

    Leaves that are not floating-point numbers are left alone. A step that is skipped
    changes no state but its counts.

    Args:
        memory: what is stored.
        law: how it is combined.
        memory_dtype: dtype of the stored units, or None.
        axis_name: over which inner products are summed.
        scaling: what gradients are divided by before memory and law see them.
        finish: weight decay and learning rate.
    """
    _check_objects(memory, law)
    memory_dtype = _checked_dtype(memory_dtype)
    core = _Core(memory, law, axis_name, scaling)

    # Units and law may differ in dtype from the parameters, whatever the setting is.
    standard = functools.partial(jax.numpy_dtype_promotion, "standard")

    @standard()
    def init_fn(params: Any) -> Any:
        params = _floating(params)
        state: Any = core.init(params, memory_dtype)
        return (state, *(t.init(params) for t in finish)) if finish else state

    @standard()
    def update_fn(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        _check_state(state, core, len(finish))
        first, *rest = state if finish else (state,)
        units = memory.units(_rllc(first).memory)
        gradient = _gradient(updates, units[0])
        params = _floating(params)
        step, new = core.update(gradient, first, params, extra_args)
        skipped = _rllc(new).skipped > _rllc(first).skipped
        finished = []
        for link, old in zip(finish, rest, strict=True):
            step, after = link.update(step, old, params)
            finished.append(_select(skipped, old, after))
        if finish and core.learns:
            step = jax.tree.map(
                lambda s: jnp.where(skipped, jnp.zeros_like(s), s), step
            )
        step = jax.tree.map(
            lambda update, s: _unchanged(update) if s is None else s,
            updates,
            step,
            is_leaf=lambda x: x is None,
        )
        return step, (new, *finished) if finish else new

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


class _Core:
    """The step of memory and law on trees of floating-point arrays."""

    def __init__(self, memory, law, axis_name, scaling):
        self.memory, self.law, self.scaling = memory, law, scaling
        self.axis_name = axis_name
        self.learns = isinstance(law, LearningLaw)
        self.geometry = _correction.geometry(memory, law) if self.learns else None

    def init(self, params, memory_dtype):
        _, labels = leaf_groups(self.law.groups, params, params)
        law = self.law.start(self.memory, len(labels), labels)
        law = jnp.asarray(law, _law_dtype(params))
        gram = explained = None
        with jax.default_matmul_precision("highest"):
            if self.geometry is None:
                gain = _correction.fixed_gain(self.memory, law)
            else:
                gram = jnp.zeros((*law.shape, law.shape[1]), law.dtype)
                explained = jnp.zeros(len(law), law.dtype)
                gain = self.geometry.gain(law, law, gram)
        units = params
        if self.learns and isinstance(self.law.solver, PseudoInverse):
            # It would mistake the rounding of nearly parallel units for a direction.
            units = at_least_float32(params)
            memory_dtype = None if memory_dtype is None else wide(memory_dtype)
        memory = self.memory.init(units, memory_dtype)
        _check_complex(self.memory.units(memory), params)
        state = ScaleByRllcState(
            count=jnp.zeros([], jnp.int32),
            skipped=jnp.zeros([], jnp.int32),
            consecutive_skips=jnp.zeros([], jnp.int32),
            law=law,
            gain=gain,
            gram=gram,
            explained=explained,
            memory=memory,
        )
        if self.scaling is None:
            return state
        return ScaleByRllcAdamState(self.scaling.init(params), state)

    def update(self, gradient, state, params, extra_args):
        old, moment = _rllc(state), getattr(state, "second_moment", None)
        named = self.memory.units(old.memory)[0] if params is None else params
        leaves, labels = leaf_groups(self.law.groups, gradient, named)
        groups = len(labels)
        _check_groups(labels, old.law)
        steps = old.count - old.skipped
        if self.geometry is None:
            finite, changes = True, self._fixed(old, groups)
        else:
            finite, changes = self._corrected(
                self.geometry, gradient, old, moment, steps, leaves, groups
            )

        # That units are written only once the inner products are known is what lets XLA
        # update donated buffers in place.
        def keep(new, old):
            return jax.tree.map(functools.partial(write, finite), new, old)

        def read(source):
            if self.scaling is None:
                return source
            return self.scaling.scale(*source, steps)

        source, new_moment = gradient, None
        if self.scaling is not None:
            # In an expression of its own, or XLA would keep the one of the inner
            # products in memory until here.
            new_moment = keep(self.scaling.update(gradient, moment, finite), moment)
            gradient, new_moment = source = stored((gradient, new_moment))
        if isinstance(self.memory, LinearMemory):
            # Always true under a fixed law; without it XLA would compute the units a
            # second time for the step, from copies of the old ones.
            condition = finite if self.learns else old.count >= 0
            memory = self.memory.advance(old.memory, source, read, condition)
        else:
            memory = self.memory.update(read(source), old.memory, params, **extra_args)
            if self.geometry is not None:
                # Linear units are finite where the gradient is; others may fail alone.
                kept_finite = _stays_finite(memory, old.memory)
                finite &= _everywhere(kept_finite, self.axis_name)
                if moment is not None:
                    new_moment = keep(new_moment, moment)
            memory = stored(keep(memory, old.memory))
        step = _step(self.memory.units(memory), changes["law"], leaves)
        new = old._replace(
            count=jnp.asarray(optax.safe_increment(old.count)), memory=memory
        )
        if self.geometry is None:
            step, new = keep(step, gradient), new._replace(**changes)
        else:
            step = keep(step, jax.tree.map(jnp.zeros_like, gradient))
            skipped, consecutive = (
                jnp.asarray(optax.safe_increment(count))
                for count in (old.skipped, old.consecutive_skips)
            )
            new = new._replace(
                skipped=jnp.where(finite, old.skipped, skipped),
                consecutive_skips=jnp.where(finite, 0, consecutive),
                **{
                    name: write(finite, value, getattr(old, name))
                    for name, value in changes.items()
                },
            )
        return step, new if moment is None else ScaleByRllcAdamState(new_moment, new)

    def _fixed(self, old, groups):
        """The fixed law, whatever the state holds: it may follow a schedule."""
        law = jnp.asarray(self.law.start(self.memory, groups), old.law.dtype)
        with jax.default_matmul_precision("highest"):
            gain = _correction.fixed_gain(self.memory, law)
        return {"law": vary_as(law, old.law), "gain": vary_as(gain, old.gain)}

    def _corrected(self, geometry, gradient, old, moment, steps, leaves, groups):
        """Whether all is finite, and new law, gain, Gram matrix and explained share."""
        memory, law = self.memory, self.law
        units, dtype, size = memory.units(old.memory), old.law.dtype, memory.size
        _check_axes(self.axis_name, (gradient, units), old.law)
        seen = gradient
        if self.scaling is not None:
            seen_moment = self.scaling.update(gradient, moment)
            seen = self.scaling.scale(gradient, seen_moment, steps)
            # A scaled gradient of 0 would hide that the second moment overflowed.
            seen = jax.tree.map(
                lambda s, m: jnp.where(jnp.isfinite(m), s, jnp.nan), seen, seen_moment
            )

        def products(trees, pairs):
            return inner_products(trees, pairs, leaves, groups, dtype, self.axis_name)

        pairs = [(unit, size) for unit in range(size)] + [(size, size)]
        carried = geometry.recursive and _accurate(units, dtype)
        table = products((*units, seen), pairs if carried else pairs + gram_pairs(size))
        rate = law.rate_at(steps)
        with_gradient, square = table[:, :size], table[:, size]
        with jax.default_matmul_precision("highest"):
            kept = vary_as(old.gram, table)

            def measured(table):
                # Units that were taken in may be too long for their squares.
                gram = geometry.measured(gram_matrix(table, size))
                return jnp.where(jnp.isfinite(gram).all(), gram, kept)

            def refreshed(units):
                return measured(products(units, gram_pairs(size)))

            due = (steps + 1) % law.refresh == 0
            if not carried:
                gram = measured(table[:, size + 1 :])
            elif isinstance(due, Tracer):
                gram = lax.cond(due, refreshed, lambda units: kept, units)
            else:  # outside of `jax.jit` a `cond` would be compiled at every step
                gram = refreshed(units) if due else kept
            corrected = _correction.correct(
                geometry,
                law,
                rate,
                old.law,
                jnp.asarray(law.start(memory, groups), dtype),
                gram,
                with_gradient,
                square,
            )
            advanced = geometry.advance(gram, with_gradient, square)
        # Not the gain, which is infinite where constant gradients fill a memory.
        finite = _all_finite((with_gradient, square, corrected.law, advanced))
        return finite, {**corrected._asdict(), "gram": advanced}


def _rllc(state: Any) -> ScaleByRllcState:
    return state.rllc if isinstance(state, ScaleByRllcAdamState) else state


def _floating(tree: Any) -> Any:
    """Leaves as arrays, without those that hold no floating-point numbers."""

    def array(path, leaf):
        try:
            dtype = jax.dtypes.result_type(leaf)
        except TypeError as error:
            raise TypeError(
                f"params: expected arrays and numbers, got {type(leaf).__name__} at "
                f"{jax.tree_util.keystr(path)}; take only the arrays, as "
                "eqx.filter(model, eqx.is_array) does"
            ) from error
        if dtype == jax.dtypes.float0 or not jnp.issubdtype(dtype, jnp.inexact):
            return None
        if isinstance(leaf, jax.ShapeDtypeStruct):  # enough for `init`
            return leaf
        leaf = jnp.asarray(leaf)
        # Not weakly typed as Python's numbers are: a state keeps its type.
        return lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree_util.tree_map_with_path(array, tree)


def _select(condition, new, old):
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    finite = jnp.asarray(True)
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            finite &= jnp.isfinite(leaf).all()
    return finite


def _stays_finite(new: Any, old: Any) -> Bool[Array, ""]:
    """Whether all is finite that was: a state may hold an infinity from the start."""
    finite = jnp.asarray(True)
    for after, before in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        if jnp.issubdtype(after.dtype, jnp.inexact):
            finite &= (jnp.isfinite(after) | ~jnp.isfinite(before)).all()
    return finite


def _everywhere(condition, axis_name):
    """Whether something holds on all devices."""
    axes = axis_names(axis_name)
    return lax.psum(jnp.int32(~condition), axes) == 0 if axes else condition


def _accurate(units, dtype) -> bool:
    """Whether units are stored precisely enough to obey the recursion."""
    resolution = jnp.finfo(dtype).eps
    return all(jnp.finfo(x.dtype).eps <= resolution for x in jax.tree.leaves(units))


def _step(units, law: Float[Array, "groups k"], leaves: tuple[int, ...]):
    """M L, each leaf by its group's law, in at least float32."""
    steps = [
        linear_combination(column, law[group])
        for group, *column in zip(
            leaves, *(jax.tree.leaves(unit) for unit in units), strict=True
        )
    ]
    return jax.tree.unflatten(jax.tree.structure(units[0]), steps)


def _law_dtype(params: optax.Params) -> Any:
    """The real dtype of the parameters, at least float32."""
    dtypes = (jnp.finfo(leaf.dtype).dtype for leaf in jax.tree.leaves(params))
    return wide(jnp.float32, *dtypes)


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


def _checked_dtype(memory_dtype: Any | None) -> Any | None:
    if memory_dtype is None:
        return None
    try:
        memory_dtype = jax.dtypes.canonicalize_dtype(memory_dtype)
    except TypeError as error:
        raise TypeError(
            f"memory_dtype: expected a dtype, got {memory_dtype!r}; under "
            "optax.inject_hyperparams name it in static_args"
        ) from error
    inexact = jnp.issubdtype(memory_dtype, jnp.inexact)
    if not inexact or jnp.finfo(memory_dtype).bits < 16:
        raise ValueError(
            "memory_dtype: expected a floating-point dtype of at least 16 bits, got "
            f"{memory_dtype}"
        )
    return memory_dtype


def _check_b2(b2: Any) -> None:
    dtype = getattr(b2, "dtype", np.dtype(np.float32))
    if jnp.issubdtype(dtype, jnp.floating) and np.array(0.999, dtype) == 1:
        raise ValueError(
            f"b2: expected at least float16, got {dtype}, in which 0.999 rounds to 1; "
            "pass hyperparam_dtype=float32 to optax.inject_hyperparams"
        )
    check_scalar("b2", b2, lambda b2: 0 <= b2 < 1, "a number in [0, 1)")


def _check_complex(units: tuple[Any, ...], params: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for unit in units:
        for (path, leaf), kept in zip(leaves, jax.tree.leaves(unit), strict=True):
            if jnp.iscomplexobj(leaf) and not jnp.iscomplexobj(kept):
                raise ValueError(
                    "memory: expected complex units for the complex parameter "
                    f"{jax.tree_util.keystr(path)}, got {kept.dtype}"
                )


def _check_state(state: Any, core: _Core, links: int) -> None:
    """Raise where a state was made by another optimizer."""

    def expect(wanted, got):
        if got != wanted:
            raise ValueError(
                f"state: expected that of this optimizer, with {wanted}, got {got}; "
                "init anew, with LearningLaw(initial=diagnostics(state).law) to keep "
                "the law"
            )

    def parts(first, rest):
        return f"a {first} followed by {rest} other(s)"

    kind = ScaleByRllcAdamState if core.scaling else ScaleByRllcState
    several = isinstance(state, tuple | list) and not hasattr(state, "_fields")
    first, *rest = state if several else (state,)
    expect(parts(kind.__name__, links), parts(type(first).__name__, len(rest)))
    found = _rllc(first)
    memory, linear = found.memory, isinstance(core.memory, LinearMemory)
    if linear or isinstance(core.memory, TransformationUnits):
        of_linear = not isinstance(memory, TransformationUnitsState)
        names = {True: "units of a linear memory", False: "outputs of transformations"}
        expect(names[linear], names[of_linear])
    size, stored_units = core.memory.size, len(core.memory.units(memory))
    expect(f"{size} unit(s)", f"{stored_units} unit(s)")
    expect(f"laws of {size} unit(s)", f"laws of {found.law.shape[-1]} unit(s)")
    if core.learns and found.gram is None:
        expect("the Gram matrix of a LearningLaw", "none, as under a FixedLaw")


def _check_groups(labels: Sequence[Any], law: Array) -> None:
    if len(labels) != len(law):
        raise ValueError(
            "groups: expected one group for each law of the state, of which there are "
            f"{len(law)}, got {len(labels)}: {listed(labels)}"
        )


def _check_axes(axis_name: AxisName, trees: Any, law: Array) -> None:
    """Raise where devices of a `shard_map` would each learn a law of their own."""
    given = axis_names(axis_name)
    varying = frozenset().union(*map(varying_axes, jax.tree.leaves(trees)))
    missing = varying - varying_axes(law) - set(given)
    if missing and (given or axis_name is None):
        raise ValueError(
            f"axis_name: expected all axes over which gradients or units vary, got "
            f"{axis_name!r} without {', '.join(map(repr, sorted(missing, key=str)))}; "
            "with them all devices share one law; where each trains a network of its "
            "own, pass axis_name=()"
        )


def _gradient(updates: Any, unit: Any) -> Any:
    """Gradients as arrays where there are units, None where there are none.

    Raises:
        ValueError: if structure or shapes differ from those of the stored units.
    """

    def is_none(leaf):
        return leaf is None

    got = jax.tree_util.tree_leaves_with_path(updates, is_leaf=is_none)
    expected = jax.tree_util.tree_leaves_with_path(unit, is_leaf=is_none)
    for (path, leaf), (expected_path, wanted) in zip(got, expected, strict=False):
        if wanted is None and path == expected_path:
            continue
        shape = None if leaf is None else jnp.shape(leaf)
        needed = None if wanted is None else wanted.shape
        if path != expected_path or shape != needed:
            raise ValueError(
                "updates: expected the structure and shapes of the parameters given to "
                f"init, got {_place(path)} of shape {shape} where they have "
                f"{_place(expected_path)} of shape {needed}"
            )
    structures = [jax.tree.structure(tree, is_leaf=is_none) for tree in (updates, unit)]
    if structures[0] != structures[1]:
        raise ValueError(
            "updates: expected the structure of the parameters given to init, "
            f"{len(expected)} arrays in {structures[1]}, got {len(got)} in "
            f"{structures[0]}"
        )

    def array(path, update, wanted):
        if wanted is None:
            return None
        dtype = jnp.asarray(update).dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            dtype = wanted.dtype
        elif jnp.iscomplexobj(wanted):
            dtype = jnp.promote_types(dtype, jnp.complex64)
        elif jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                "updates: expected a real gradient for the real units of "
                f"{_place(path)}, got {dtype}"
            )
        return lax.convert_element_type(update, dtype)

    return jax.tree_util.tree_map_with_path(array, updates, unit, is_leaf=is_none)


def _place(path: Any) -> str:
    """Where a leaf is, for errors."""
    return jax.tree_util.keystr(path) or "an array"


def _unchanged(update: Any) -> Any:
    """The update of a leaf that is left alone: zero, and nothing where nothing came."""
    if update is None:
        return None
    if jax.dtypes.result_type(update) == jax.dtypes.float0:
        return jnp.zeros(jnp.shape(update), bool)
    return jnp.zeros_like(update)


def scale_by_rllc(
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    *,
    memory_dtype: Any | None = None,
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Replace gradients by the combination M L of memory units under a learned law.

    At each gradient g, in this order: the law is corrected with the memory of the last
    step, the memory takes in g, and the step is made:

    .. math::

        L \leftarrow L + c_2\, M^+ g, \qquad M \leftarrow M A + g\,b^\top, \qquad
        \text{update} = M L

    If an inner product of g with itself or a unit is not finite, the update is zero,
    memory and law stay as they were, and ``skipped`` counts it.

    A state belongs to its memory and the solver of its law, which must not change: they
    fix the basis of the Gram matrix in it. To change them, ``init`` anew.

    Args:
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)``.
        law: how it is combined; by default ``LearningLaw()``.
        memory_dtype: dtype of the stored units; by default that of the parameters.
        axis_name: mesh axis or axes of a ``shard_map``, ``pmap`` or ``vmap`` over which
            gradients and units are sharded: inner products are summed over them; ``()``
            where every device trains a network of its own.

    Returns:
        The transformation. Its updates point along the gradient: chain it with
        ``optax.scale_by_learning_rate``.

    Raises:
        ValueError: if the law does not fit the memory, the memory has no Gramian where
            the law needs one, or ``update`` is given the state of another optimizer.
        TypeError: if memory or law has the wrong type.

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
    return transformation(memory, law, memory_dtype, axis_name)
