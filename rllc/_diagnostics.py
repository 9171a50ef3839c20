"""Looking inside a run: laws, conditioning, gain, response."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from rllc._inner import Groups
from rllc._law import FixedLaw, LearningLaw
from rllc._memory import LinearMemory, check_count
from rllc._transform import ScaleByRllcState


class Diagnostics(NamedTuple):
    """What :func:`diagnostics` reads from a state, one entry per group.

    Attributes:
        law: L in the user's basis, shape (groups, k).
        gain: the effective learning rate. For linear memory γᵀL with γᵀ = bᵀ(I − A)⁻¹,
            the sum of the response, infinite where that has none; for other memories
            Σᵢ‖mᵢ‖Lᵢ relative to the initial law's.
        condition: condition number of the memory's Gram matrix, for linear memory in
            the basis that whitens its Gramian; None under a fixed law.
        explained: share of the last gradient's squared length that lay in the span of
            the memory before it arrived, as the solver saw it; None under a fixed law.
        skipped: count of updates that were skipped because something was not finite.
        consecutive_skips: how many updates in a row were skipped last.
    """

    law: Float[Array, "groups k"]
    gain: Float[Array, " groups"]
    condition: Float[Array, " groups"] | None
    explained: Float[Array, " groups"] | None
    skipped: Int[Array, ""]
    consecutive_skips: Int[Array, ""]


def diagnostics(state: optax.OptState) -> Any:
    """Read law, gain, conditioning, explained share and skips from any Optax state.

    Works inside jit and vmap, and on the states of vmapped optimizers, whose leading
    axes the entries keep.

    Args:
        state: a state that holds at least one :func:`rllc.scale_by_rllc` state, at any
            depth of chains and wrappers.

    Returns:
        The :class:`Diagnostics`. Where the state holds several (``optax.partition``,
        a chain of two), a dictionary of them by their paths in the state.

    Raises:
        ValueError: if the state holds none.

    Example:
        >>> import jax.numpy as jnp, rllc
        >>> optimizer = rllc.rllc(0.1, memory=rllc.decays(0.0, 0.9))
        >>> rllc.diagnostics(optimizer.init(jnp.ones(3))).gain
        Array([10.], dtype=float32)

    References:
        ours.
    """
    return _one_or_by_path({path: _read(s) for path, s in _rllc_states(state).items()})


def _read(state: ScaleByRllcState) -> Diagnostics:
    condition = None
    if state.gram is not None:
        scale = jnp.trace(state.gram, axis1=-2, axis2=-1)[..., None, None]
        values = jnp.linalg.eigvalsh(state.gram / jnp.where(scale > 0, scale, 1))
        smallest = values[..., 0].clip(min=0)
        ratio = values[..., -1] / jnp.where(smallest > 0, smallest, 1)
        condition = jnp.where(smallest > 0, ratio, jnp.inf)
    return Diagnostics(
        state.law,
        state.gain,
        condition,
        state.explained,
        state.skipped,
        state.consecutive_skips,
    )


def response(
    memory: LinearMemory, law: FixedLaw | LearningLaw | Any, length: int
) -> Float[np.ndarray, " length"]:
    r"""The weight of the gradient of j steps ago in the step.

    .. math::

        w_j = b^\top A^j L, \qquad j = 0, \dots, \text{length} - 1

    SGD has (1, 0, …), momentum (1, μ, μ², …), Nesterov (1 + μ, μ², μ³, …). The sum of
    the whole response is the gain.

    Args:
        memory: a linear memory.
        law: coefficients of shape (k,) or (groups, k), or a law object, whose initial
            law is taken.
        length: how many weights, at least 1.

    Returns:
        The weights, shape (length,) or (groups, length).

    Raises:
        TypeError: if the memory is not linear: other units have no such response.
        ValueError: if law or length do not fit.

    Example:
        >>> import rllc
        >>> rllc.response(rllc.decays(0.0, 0.5), [1.0, 0.5], length=4)
        array([1.5   , 0.25  , 0.125 , 0.0625])

    References:
        ours.
    """
    if not isinstance(memory, LinearMemory):
        raise TypeError(
            f"memory: expected a LinearMemory, got {type(memory).__name__}; only "
            "linear units respond to past gradients with fixed weights"
        )
    check_count("length", length)
    if isinstance(law, FixedLaw):
        law = law.coefficients
    elif isinstance(law, LearningLaw):
        law = memory.initial_law if law.initial is None else law.initial
    law = np.asarray(law, dtype=np.float64)
    if law.ndim not in (1, 2) or law.shape[-1] != memory.size:
        raise ValueError(
            f"law: expected shape ({memory.size},) or (groups, {memory.size}), got "
            f"{law.shape}"
        )
    rows = [memory.input]
    for _ in range(length - 1):
        rows.append(rows[-1] @ memory.propagator)
    return law @ np.stack(rows).T


def freeze(state: optax.OptState, groups: Groups = None) -> Any:
    """Return the learned law as a fixed one.

    Args:
        state: as for :func:`diagnostics`. Call it inside ``jax.vmap`` where states are
            vmapped.
        groups: the ``groups`` of the learning law, needed where it has several.

    Returns:
        A :class:`rllc.FixedLaw` that keeps the learned law. Where the state
        holds several, a dictionary of them by their paths in the state.

    Raises:
        ValueError: if the state holds none, if it is that of a vmapped optimizer, or if
            it has several laws and no groups are given.

    Example:
        >>> import jax.numpy as jnp, rllc
        >>> memory = rllc.decays(0.0, 0.9)
        >>> state = rllc.rllc(0.1, memory=memory).init(jnp.ones(3))
        >>> frozen = rllc.rllc(0.1, memory=memory, law=rllc.freeze(state))

    References:
        ours.
    """
    laws = {path: found.law for path, found in _rllc_states(state).items()}
    return _one_or_by_path({path: _frozen(law, groups) for path, law in laws.items()})


def _frozen(law: Array, groups: Groups) -> FixedLaw:
    if law.ndim > 2:
        raise ValueError(
            "state: expected that of one optimizer, got that of a vmapped one with "
            f"laws of shape {law.shape}; call freeze inside jax.vmap, or on "
            "jax.tree.map(lambda leaf: leaf[i], state)"
        )
    if groups is None and len(law) > 1:
        raise ValueError(
            f"groups: expected those of the LearningLaw, got None; the state holds "
            f"{len(law)} laws, and the LearningLaw alone knows which leaves share one"
        )
    rows: Any = law if isinstance(law, Tracer) else np.asarray(law)
    if groups is None and len(rows):
        return FixedLaw(rows[0])
    return FixedLaw(rows, "leaf" if groups is None else groups)


def _one_or_by_path(found: dict[str, Any]) -> Any:
    return next(iter(found.values())) if len(found) == 1 else found


def _rllc_states(state: optax.OptState) -> dict[str, ScaleByRllcState]:
    """All states of `scale_by_rllc` inside an Optax state, by their paths."""

    def is_rllc(node):
        return isinstance(node, ScaleByRllcState)

    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_rllc)
    found = {jax.tree_util.keystr(path): n for path, n in nodes if is_rllc(n)}
    if not found:
        raise ValueError(
            "state: expected at least one RLLC state in it, found none; was it made by "
            "an optimizer that contains scale_by_rllc?"
        )
    return found
