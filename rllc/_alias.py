"""The complete optimizers, with learning rate and decoupled weight decay."""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax

from rllc._correction import gain_of_units
from rllc._inner import AxisName
from rllc._law import FixedLaw, LearningLaw
from rllc._memory import LinearMemory, Memory, checked_decay, decays, direct_sum
from rllc._solver import AT_LEAST_0, Scalar, check_scalar
from rllc._transform import RootMeanSquare, transformation

Mask = Any | Callable[[optax.Params], Any]


def rllc(
    learning_rate: optax.ScalarOrSchedule,
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask | None = None,
    *,
    memory_dtype: Any | None = None,
    axis_name: AxisName = None,
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
            For large batches, :func:`rllc.large_batch_law`.
        weight_decay: λ, decoupled; None adds nothing to the chain.
        mask: which parameters decay, as in ``optax.add_decayed_weights``.
        memory_dtype: dtype of the stored units; by default that of the parameters.
        axis_name: as for :func:`rllc.scale_by_rllc`.

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
    memory = decays(0.0, 0.9, 0.99) if memory is None else memory
    law = LearningLaw() if law is None else law
    finish = _finish(learning_rate, weight_decay, mask)
    return transformation(memory, law, memory_dtype, axis_name, finish=finish)


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
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """RLLC on gradients scaled as Adam scales them (ours).

    :func:`rllc.scale_by_rllc_adam` followed by decoupled weight decay and the learning
    rate. By default learning rates of Adam carry over.

    Args:
        learning_rate: a number or a schedule.
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)`` and, with
            initial coefficient 0, ``decays(0.999)``.
        law: how it is combined; by default ``LearningLaw(rate=1e-3)``. A learning law
            without an initial one starts from the memory's, scaled to gain 1.
        b2: decay of the second moment.
        eps: added to its root.
        weight_decay: decoupled; None adds nothing to the chain.
        mask: which parameters decay, as in ``optax.add_decayed_weights``.
        memory_dtype: dtype of the stored units; by default that of the parameters.
        axis_name: as for :func:`rllc.scale_by_rllc`.

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
    return transformation(
        *_on_adam(memory, law),
        memory_dtype,
        axis_name,
        RootMeanSquare(b2, eps),
        _finish(learning_rate, weight_decay, mask),
    )


def sgd(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent: one unit, the gradient, under a fixed law.

    Args:
        learning_rate: a number or a schedule.

    Returns:
        The optimizer; its updates are those of ``optax.sgd(learning_rate)``.

    Example:
        >>> import rllc
        >>> optimizer = rllc.sgd(0.1)
    """
    return rllc(learning_rate, decays(0.0), FixedLaw([1.0]))


def momentum(
    learning_rate: optax.ScalarOrSchedule, decay: float = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Heavy-ball momentum: the step is :math:`m \leftarrow \mu m + g`.

    Args:
        learning_rate: a number or a schedule.
        decay: μ, in (-1, 1).

    Returns:
        The optimizer; its updates are those of ``optax.sgd`` with this momentum.

    Raises:
        ValueError: for a decay out of range.

    Example:
        >>> import rllc
        >>> optimizer = rllc.momentum(0.01, 0.9)
    """
    return rllc(learning_rate, decays(checked_decay(decay)), FixedLaw([1.0]))


def nesterov(
    learning_rate: optax.ScalarOrSchedule, decay: float = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Nesterov's momentum: the step is :math:`g + \mu m` with the new m.

    Args:
        learning_rate: a number or a schedule.
        decay: μ, in (-1, 1).

    Returns:
        The optimizer; its updates are those of ``optax.sgd`` with this momentum and
        ``nesterov=True``.

    Raises:
        ValueError: for a decay out of range.

    Example:
        >>> import rllc
        >>> optimizer = rllc.nesterov(0.01, 0.9)
    """
    decay = checked_decay(decay)
    return rllc(learning_rate, decays(0.0, decay), FixedLaw([1.0, decay]))


def scale_by_rllc_adam(
    memory: Memory | None = None,
    law: LearningLaw | FixedLaw | None = None,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    memory_dtype: Any | None = None,
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Apply RLLC to gradients divided by their root mean square.

    .. math::

        \nu \leftarrow \beta_2 \nu + (1 - \beta_2)\, g^2, \qquad
        \tilde g = g \,/\, \bigl(\sqrt{\nu / (1 - \beta_2^t)} + \varepsilon\bigr)

    and :math:`\tilde g` goes to :func:`rllc.scale_by_rllc`. A gradient that is skipped
    there leaves the second moment alone too.

    Args:
        memory: what is stored; by default ``decays(0.0, 0.9, 0.99)`` and, with
            initial coefficient 0, ``decays(0.999)``.
        law: how it is combined; by default ``LearningLaw(rate=1e-3)``. A learning law
            without an initial one starts from the memory's, scaled to gain 1.
        b2: β₂, in [0, 1).
        eps: ε.
        memory_dtype: dtype of the stored units; by default that of the parameters.
        axis_name: as for :func:`rllc.scale_by_rllc`.

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
    return transformation(
        *_on_adam(memory, law), memory_dtype, axis_name, RootMeanSquare(b2, eps)
    )


def _on_adam(memory, law):
    """Defaults; a learning law starts from the memory's, scaled to gain 1."""
    if memory is None:
        memory = direct_sum(decays(0.0, 0.9, 0.99), decays(0.999))
    law = LearningLaw(rate=1e-3) if law is None else law
    linear = isinstance(memory, LinearMemory)
    if not linear or not isinstance(law, LearningLaw) or law.initial is not None:
        return memory, law
    gain_vector = gain_of_units(memory)
    if gain_vector is None:  # an undamped memory has no gain to be scaled to 1
        return memory, law
    gain = gain_vector @ memory.initial_law
    if gain == 0:
        raise ValueError(
            "memory: expected an initial_law whose gain is not 0, as it is scaled to "
            f"gain 1, got {memory.initial_law.tolist()}; give the law's initial"
        )
    return memory, dataclasses.replace(law, initial=memory.initial_law / gain)


def _finish(learning_rate, weight_decay, mask):
    links = [optax.scale_by_learning_rate(_checked("learning_rate", learning_rate))]
    if weight_decay is not None:
        decay = _checked("weight_decay", weight_decay)
        links.insert(0, optax.add_decayed_weights(decay, mask))
    elif mask is not None:
        raise ValueError(
            "weight_decay: expected a number, as there is a mask of what decays, got "
            "None"
        )
    return tuple(links)


def _checked(name: str, value: Any) -> Any:
    if not callable(value):
        check_scalar(name, value, lambda value: value >= 0, AT_LEAST_0)
    return value
