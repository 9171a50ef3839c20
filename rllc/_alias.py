"""The complete optimizers, with learning rate and decoupled weight decay."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rllc._law import FixedLaw, LearningLaw
from rllc._memory import LinearMemory, Memory, decays, direct_sum
from rllc._solver import AT_LEAST_0, Scalar, check_scalar
from rllc._transform import scale_by_rllc

Mask = Any | Callable[[optax.Params], Any]


def rllc(
    learning_rate: optax.ScalarOrSchedule,
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask | None = None,
    *,
    memory_dtype: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Retrospective learning law correction over memory units.

    .. math::

        \theta \leftarrow \theta - c_1\,(M L + \lambda\,\theta)

    with memory and law as in :func:`rllc.scale_by_rllc`. By default learning rates of
    momentum SGD with decay 0.9 carry over.

    Args:
        learning_rate: :math:`c_1`, a number or a schedule.
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)``.
        law: how it is combined; by default ``LearningLaw()``, which conserves the gain.
        weight_decay: λ, decoupled; None adds nothing to the chain.
        mask: which parameters decay, as in ``optax.add_decayed_weights``.
        memory_dtype: dtype of the stored units; by default that of the parameters.

    Returns:
        The optimizer.

    Raises:
        ValueError: if memory and law do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, optax, rllc
        >>> loss = lambda x: jnp.sum(x**2)
        >>> optimizer, x = rllc.rllc(0.02), jnp.array([1.0, -2.0])
        >>> state = optimizer.init(x)
        >>> for _ in range(100):
        ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
        ...     x = optax.apply_updates(x, updates)
        >>> bool(loss(x) < 1e-2)
        True

    References:
        Szegedy et al., 2024 (arXiv 2402.15262); conserved gain and defaults: ours.
    """
    return _complete(
        scale_by_rllc(memory, law, memory_dtype), learning_rate, weight_decay, mask
    )


def rllc_adam(
    learning_rate: optax.ScalarOrSchedule,
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask | None = None,
    *,
    memory_dtype: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    """RLLC on gradients scaled as Adam scales them (ours).

    :func:`rllc.scale_by_rllc_adam` followed by decoupled weight decay and the learning
    rate. By default learning rates of Adam carry over.

    Args:
        learning_rate: a number or a schedule.
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)`` and, with no say
            in the initial law, ``decays(0.999)``.
        law: how it is combined; by default ``LearningLaw(rate=1e-3)``. A learning law
            without an initial one starts from the memory's, scaled to gain 1.
        b2: decay of the second moment.
        eps: added to its root.
        weight_decay: decoupled; None adds nothing to the chain.
        mask: which parameters decay, as in ``optax.add_decayed_weights``.
        memory_dtype: dtype of the stored units; by default that of the parameters.

    Returns:
        The optimizer.

    Raises:
        ValueError: if memory and law do not fit each other.

    Example:
        >>> import optax, rllc
        >>> schedule = optax.cosine_decay_schedule(2e-3, 1000)
        >>> optimizer = rllc.rllc_adam(schedule, weight_decay=1e-2)

    References:
        Scaling: Kingma and Ba, 2015 (arXiv 1412.6980); the rest: ours.
    """
    scaled = scale_by_rllc_adam(memory, law, b2, eps, memory_dtype)
    return _complete(scaled, learning_rate, weight_decay, mask)


class ScaleByRllcAdamState(NamedTuple):
    """State of :func:`scale_by_rllc_adam`."""

    second_moment: Any
    rllc: Any


def scale_by_rllc_adam(
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    memory_dtype: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Lets memory and look back see gradients divided by their root mean square.

    .. math::

        \nu \leftarrow \beta_2 \nu + (1 - \beta_2)\, g^2, \qquad
        \tilde g = g \,/\, \bigl(\sqrt{\nu / (1 - \beta_2^t)} + \varepsilon\bigr)

    and :math:`\tilde g` goes to :func:`rllc.scale_by_rllc`. A gradient that is skipped
    there leaves the second moment alone too.

    Args:
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)`` and, with no say
            in the initial law, ``decays(0.999)``.
        law: how it is combined; by default ``LearningLaw(rate=1e-3)``. A learning law
            without an initial one starts from the memory's, scaled to gain 1.
        b2: β₂, in [0, 1).
        eps: ε.
        memory_dtype: dtype of the stored units; by default that of the parameters.

    Returns:
        The transformation.

    Raises:
        ValueError: if memory and law do not fit each other, or b2 or eps is out of
            range.

    Example:
        >>> import optax, rllc
        >>> optimizer = optax.chain(
        ...     rllc.scale_by_rllc_adam(), optax.scale_by_learning_rate(1e-3)
        ... )

    References:
        Scaling: Kingma and Ba, 2015 (arXiv 1412.6980); the rest: ours.
    """
    if memory is None:
        memory = direct_sum(decays(0.0, 0.9, 0.99), decays(0.999))
    law = _with_unit_gain(memory, LearningLaw(rate=1e-3) if law is None else law)
    check_scalar("b2", b2, lambda b2: 0 <= b2 < 1, "a number in [0, 1)")
    check_scalar("eps", eps, lambda eps: eps >= 0, AT_LEAST_0)
    if isinstance(b2, float):
        # As float32 will see it, so that 1 - b2 and the bias correction agree.
        b2 = float(np.float32(b2))
    rms = optax.scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    inner = scale_by_rllc(memory, law, memory_dtype)

    def init_fn(params: Any) -> Any:
        return ScaleByRllcAdamState(rms.init(params), inner.init(params))

    def update_fn(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        second_moment: Any
        scaled, second_moment = rms.update(updates, state.second_moment, params)
        scaled = jax.tree.map(_poisoned, scaled, second_moment.nu)
        rllc: Any
        updates, rllc = inner.update(scaled, state.rllc, params, **extra_args)
        skipped = rllc.skipped > state.rllc.skipped
        second_moment = jax.tree.map(
            lambda new, old: jnp.where(skipped, old, new),
            second_moment,
            state.second_moment,
        )
        return updates, ScaleByRllcAdamState(second_moment, rllc)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _with_unit_gain(memory, law):
    """The law, started from the memory's own scaled to gain 1 if not told otherwise."""
    linear = isinstance(memory, LinearMemory)
    if not linear or isinstance(law, FixedLaw) or law.initial is not None:
        return law
    gain = memory.spectrum.gain @ memory.initial_law
    return dataclasses.replace(law, initial=memory.initial_law / gain)


def _poisoned(scaled, second_moment):
    """NaN where the second moment overflowed: a scaled gradient of 0 would hide it."""
    return jnp.where(jnp.isfinite(second_moment), scaled, jnp.nan)


def _complete(scaled, learning_rate, weight_decay, mask):
    decay = []
    if weight_decay is not None:
        decay = [optax.add_decayed_weights(weight_decay, mask)]
    return optax.chain(scaled, *decay, optax.scale_by_learning_rate(learning_rate))
