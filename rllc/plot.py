"""Plots of a learned law. They need Matplotlib: ``pip install 'jax-between[plot]'``."""

from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from rllc import LinearMemory
from rllc._correction import gain_of_units

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise ImportError(
        "rllc.plot: expected Matplotlib; install it with "
        "pip install 'jax-between[plot]'"
    ) from error

__all__ = ["gain_shares", "law", "response"]


def gain_shares(
    memory: LinearMemory, laws: Float[ArrayLike, "*rest k"]
) -> Float[np.ndarray, "*rest k"]:
    r"""Return the share of the gain that each memory unit contributes.

    .. math::

        s_i = \frac{\gamma_i L_i}{\gamma^\top L}, \qquad
        \gamma^\top = b^\top (I - A)^{-1}

    The shares sum to 1. Unlike the coefficients of the law they are comparable across
    time scales: a unit of decay β sums 1 / (1 − β) gradients.

    Args:
        memory: a linear memory of k units.
        laws: laws in the last axis, as :func:`rllc.diagnostics` returns them.

    Returns:
        The shares, shaped like ``laws``; not finite where the gain is 0.

    Raises:
        TypeError: if the memory is not linear.
        ValueError: if the memory is undamped, so that its gain is infinite, or the last
            axis of ``laws`` does not have one entry per unit.

    Example:
        >>> import rllc, rllc.plot
        >>> rllc.plot.gain_shares(rllc.decays(0.0, 0.9), [5.0, 0.5]).round(3)
        array([0.5, 0.5])

    References:
        ours.
    """
    if not isinstance(memory, LinearMemory):
        raise TypeError(
            f"memory: expected a LinearMemory, got {type(memory).__name__}; units of "
            "other memories do not sum gradients with fixed weights"
        )
    laws = np.asarray(laws, np.float64)
    if laws.ndim < 1 or laws.shape[-1] != memory.size:
        raise ValueError(f"laws: expected shape (…, {memory.size}), got {laws.shape}")
    gain = gain_of_units(memory)
    if gain is None:
        raise ValueError(
            "memory: expected a damped one, got eigenvalues "
            f"{np.linalg.eigvals(memory.propagator)}; its gain is infinite"
        )
    weights = gain * laws
    return weights / weights.sum(axis=-1, keepdims=True)


def law(
    memory: LinearMemory,
    laws: Float[ArrayLike, "points *rest k"],
    steps: Float[ArrayLike, " points"] | None = None,
    *,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the share of the gain of each time scale during training.

    One line per memory unit: the mean over groups or runs, with a band from the
    smallest to the largest.

    Args:
        memory: the linear memory of the optimizer.
        laws: ``rllc.diagnostics(state).law`` at each recorded step, stacked; axes
            between the first and the last are groups or runs.
        steps: training step of each point; by default 0, 1, 2, ….
        ax: axes to draw on; by default those of a new figure.
        **line: passed on to ``ax.plot``.

    Returns:
        The axes.

    Raises:
        TypeError: if the memory is not linear.
        ValueError: if ``laws`` or ``steps`` do not have the expected shape.

    Example:
        >>> import numpy as np, rllc, rllc.plot
        >>> laws = np.linspace([1.0, 0.9], [0.5, 0.95], 20)
        >>> axes = rllc.plot.law(rllc.decays(0.0, 0.9), laws)
        >>> axes.get_legend_handles_labels()[1]
        ['1 step', '10 steps']

    References:
        ours.
    """
    shares = gain_shares(memory, laws)
    if shares.ndim < 2 or shares.size == 0:
        raise ValueError(
            f"laws: expected shape (points, …, {memory.size}), with at least one law, "
            f"got {shares.shape}"
        )
    shares = shares.reshape(len(shares), -1, memory.size)
    steps = np.arange(len(shares)) if steps is None else np.asarray(steps)
    if steps.shape != shares.shape[:1]:
        raise ValueError(
            f"steps: expected shape ({len(shares)},) as laws has, got {steps.shape}"
        )
    ax = plt.subplots()[1] if ax is None else ax
    for unit, name in enumerate(_time_scales(memory)):
        found = shares[..., unit]
        look: dict[str, Any] = {"label": name} | line
        drawn = ax.plot(steps, found.mean(axis=1), **look)[0]
        ends = found.min(axis=1), found.max(axis=1)
        ax.fill_between(steps, *ends, color=drawn.get_color(), alpha=0.15, linewidth=0)
    ax.set_xlabel("step")
    ax.set_ylabel("share of the gain")
    return ax


def response(
    weights: Float[ArrayLike, "*rest length"], *, ax: Axes | None = None, **line: Any
) -> Axes:
    """Plot how much of the update comes from the gradient of j steps ago.

    Weights are divided by the sum of their absolute values, so that responses of
    different gain can be compared. The vertical axis is logarithmic except near 0.

    Args:
        weights: what :func:`rllc.response` returns, one line for each row.
        ax: axes to draw on; by default those of a new figure.
        **line: passed on to ``ax.plot``; ``label`` names the first row.

    Returns:
        The axes.

    Raises:
        ValueError: if there are no weights, or they have no axis of length.

    Example:
        >>> import rllc, rllc.plot
        >>> axes = rllc.plot.response(
        ...     rllc.response(rllc.decays(0.9), [1.0], length=30), label="momentum 0.9"
        ... )
        >>> float(axes.lines[0].get_ydata()[0].round(3))
        0.104

    References:
        ours.
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim < 1 or weights.size == 0:
        raise ValueError(
            "weights: expected shape (…, length), with at least one weight, got "
            f"{weights.shape}"
        )
    rows = weights.reshape(-1, weights.shape[-1])
    shares = rows / np.abs(rows).sum(axis=1, keepdims=True)
    ax = plt.subplots()[1] if ax is None else ax
    label = line.pop("label", None)
    for place, row in enumerate(shares):
        ax.plot(row, label=None if place else label, **line)
    ax.set_yscale("symlog", linthresh=1e-3, linscale=0.5)
    ax.set_xlabel("steps ago")
    ax.set_ylabel("weight of the gradient")
    return ax


def _time_scales(memory: LinearMemory) -> list[str]:
    """Name units by the steps that they sum over, where each is a decaying sum."""
    propagator = np.asarray(memory.propagator, np.float64)
    decays = np.diag(propagator)
    if not np.array_equal(propagator, np.diag(decays)):
        return [f"unit {unit + 1}" for unit in range(memory.size)]
    scales = [f"{scale:.4g}" for scale in 1 / (1 - decays)]
    return [f"{scale} step" + "s" * (scale != "1") for scale in scales]
