"""The classical optimizers as members of the family: a memory and a fixed law each."""

from rllc._law import FixedLaw
from rllc._memory import LinearMemory, decays


def sgd() -> tuple[LinearMemory, FixedLaw]:
    """Stochastic gradient descent: the update is the gradient.

    Returns:
        (memory, law) for :func:`rllc.scale_by_rllc`; equals ``optax.sgd(rate)``.

    Example:
        >>> import rllc
        >>> optimizer = rllc.rllc(0.1, *rllc.sgd())
    """
    return decays(0.0), FixedLaw([1.0])


def momentum(decay: float) -> tuple[LinearMemory, FixedLaw]:
    r"""Heavy-ball momentum: the update is :math:`m \leftarrow \mu m + g`.

    Args:
        decay: μ, in (-1, 1).

    Returns:
        (memory, law); equals ``optax.sgd(rate, momentum=decay)``.

    Raises:
        ValueError: for a decay out of range.

    Example:
        >>> import rllc
        >>> optimizer = rllc.rllc(0.01, *rllc.momentum(0.9))
    """
    return decays(decay), FixedLaw([1.0])


def nesterov(decay: float) -> tuple[LinearMemory, FixedLaw]:
    r"""Nesterov's momentum: the update is :math:`g + \mu m` with the new m.

    Args:
        decay: μ, in (-1, 1) and not 0, where it would be :func:`sgd`.

    Returns:
        (memory, law); equals ``optax.sgd(rate, momentum=decay, nesterov=True)``.

    Raises:
        ValueError: for a decay out of range.

    Example:
        >>> import rllc
        >>> optimizer = rllc.rllc(0.01, *rllc.nesterov(0.9))
    """
    if decay == 0:
        raise ValueError("decay: expected one other than 0, got 0; use sgd()")
    return decays(0.0, decay), FixedLaw([1.0, decay])
