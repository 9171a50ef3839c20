"""Looking inside a run: laws, conditioning, gain, response."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from rllc._groups import Groups
from rllc._law import FixedLaw, LearningLaw
from rllc._memory import LinearMemory
from rllc._transform import ScaleByRllcState


class Diagnostics(NamedTuple):
    """What :func:`diagnostics` reads from a state, one entry a group.

    Attributes:
        law: L in the user's basis, shape (groups, k).
        gain: the effective learning rate. For linear memory γᵀL with γᵀ = bᵀ(I − A)⁻¹,
            the sum of the response; for other memories Σᵢ‖mᵢ‖Lᵢ relative to the initial
            law's.
        condition: condition number of the memory's Gram matrix, for linear memory in
            the basis that whitens its Gramian; NaN under a fixed law.
        explained: share of the last gradient's squared length that lay in the span of
            the memory before it arrived, as the solver saw it; NaN under a fixed law.
        skipped: count of updates refused because something was not finite.
    """

    law: Float[Array, "groups k"]
    gain: Float[Array, " groups"]
    condition: Float[Array, " groups"]
    explained: Float[Array, " groups"]
    skipped: Int[Array, ""]


def diagnostics(state: optax.OptState) -> Diagnostics:
    """Reads law, gain, conditioning, explained share and skips from any Optax state.

    Works inside jit and vmap.

    Args:
        state: a state that holds exactly one :func:`rllc.scale_by_rllc` state, at any
            depth of chains and wrappers.

    Returns:
        The :class:`Diagnostics`.

    Raises:
        ValueError: if the state holds none or several.

    Example:
        >>> import jax.numpy as jnp, rllc
        >>> optimizer = rllc.rllc(0.1, memory=rllc.decays(0.0, 0.9))
        >>> rllc.diagnostics(optimizer.init(jnp.ones(3))).gain
        Array([10.], dtype=float32)

    References:
        ours.
    """
    found = rllc_state(state)
    if found.gram is None or found.explained is None:
        unknown = jnp.full_like(found.gain, jnp.nan)
        return Diagnostics(found.law, found.gain, unknown, unknown, found.skipped)
    scale = jnp.trace(found.gram, axis1=-2, axis2=-1)[..., None, None]
    values = jnp.linalg.eigvalsh(found.gram / jnp.where(scale > 0, scale, 1))
    smallest = values[..., 0].clip(min=0)
    condition = jnp.where(smallest > 0, values[..., -1] / smallest, jnp.inf)
    return Diagnostics(found.law, found.gain, condition, found.explained, found.skipped)


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
        >>> rllc.response(*rllc.nesterov(0.5), length=4)
        array([1.5   , 0.25  , 0.125 , 0.0625])

    References:
        ours.
    """
    if not isinstance(memory, LinearMemory):
        raise TypeError(
            f"memory: expected a LinearMemory, got {type(memory).__name__}; only "
            "linear units respond to past gradients with fixed weights"
        )
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"length: expected an integer of at least 1, got {length!r}")
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


def freeze(state: optax.OptState, groups: Groups = None) -> FixedLaw:
    """The learned law as a fixed one.

    Args:
        state: as for :func:`diagnostics`.
        groups: the ``groups`` of the learning law, needed where it has several.

    Returns:
        A :class:`rllc.FixedLaw` that goes on with the law as it is.

    Raises:
        ValueError: if the state holds no or several RLLC states, or several laws and no
            groups are given.

    Example:
        >>> import jax.numpy as jnp, rllc
        >>> memory = rllc.decays(0.0, 0.9)
        >>> state = rllc.rllc(0.1, memory=memory).init(jnp.ones(3))
        >>> frozen = rllc.rllc(0.1, memory=memory, law=rllc.freeze(state))

    References:
        ours.
    """
    law = np.asarray(rllc_state(state).law)
    if groups is None and len(law) != 1:
        raise ValueError(
            f"groups: expected those of the LearningLaw, got None; the state holds "
            f"{len(law)} laws, and the LearningLaw alone knows which leaves share one"
        )
    return FixedLaw(law if groups is not None else law[0], groups)


def rllc_state(state: optax.OptState) -> ScaleByRllcState:
    """The one :class:`ScaleByRllcState` inside an Optax state."""

    def is_rllc(node):
        return isinstance(node, ScaleByRllcState)

    found = [node for node in jax.tree.leaves(state, is_leaf=is_rllc) if is_rllc(node)]
    if len(found) != 1:
        raise ValueError(
            f"state: expected exactly one RLLC state in it, found {len(found)}; "
            + (
                "pass the part that belongs to one of them"
                if found
                else "was it made by an optimizer that contains scale_by_rllc?"
            )
        )
    return found[0]
