"""Plots of layers and stitches.

They need Matplotlib: `pip install 'jax-between[plot]'`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from stitching.report import Audit

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise ImportError(
        "stitching.plot: expected Matplotlib; install it with "
        "pip install 'jax-between[plot]'"
    ) from error

__all__ = ["audit", "layer_to_layer", "over_layers"]

_CONTROLS = {
    "self_stitch": "network b stitched to itself",
    "untrained": "untrained network a",
    "shuffled": "shuffled inputs",
    "noise": "noise",
}


def layer_to_layer(
    scores: Float[ArrayLike, "k l"],
    layers_1: Sequence[str] | None = None,
    layers_2: Sequence[str] | None = None,
    *,
    label: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    ax: Axes | None = None,
) -> Axes:
    """Plot a score of every layer of one network against every layer of another.

    Args:
        scores: shape (k, l), as `report.layer_scores` returns them; of one network
            with itself as well. NaN are left blank.
        layers_1, layers_2: names of the k layers of network a and of the l of network
            b; numbers by default, or those of network a where there are as many.
        label: what the colour bar shows; without one there is no colour bar.
        limits: scores of the lowest and the highest colour.
        ax: axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: if `scores` is not a matrix, or there are not as many names as
            layers.

    Example:
        >>> import jax, stitching.plot
        >>> from stitching import report, similarity
        >>> x = jax.random.normal(jax.random.key(0), (50, 4))
        >>> layers = [x, x**2]  # of one network
        >>> scores = report.layer_scores(similarity.cka, layers, layers)
        >>> axes = stitching.plot.layer_to_layer(scores, ["conv1", "conv2"])
        >>> [text.get_text() for text in axes.texts][::3]
        ['1.00', '1.00']
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores: expected a matrix, got shape {scores.shape}")
    names_1 = _names("layers_1", layers_1, scores.shape[0])
    if layers_2 is None and scores.shape[0] == scores.shape[1]:
        layers_2 = layers_1
    names_2 = _names("layers_2", layers_2, scores.shape[1])
    ax = plt.subplots()[1] if ax is None else ax
    low, high = limits
    drawn = ax.pcolormesh(scores, cmap="viridis", vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(scores):
        if np.isfinite(value):
            colour = "black" if value > low + 0.6 * (high - low) else "white"
            text = f"{value:.2f}" if high - low < 10 else f"{value:.0f}"
            place = {"ha": "center", "va": "center", "fontsize": 7.5}
            ax.text(j + 0.5, i + 0.5, text, color=colour, **place)
    ax.set_xticks(np.arange(len(names_2)) + 0.5, names_2, rotation=35, ha="right")
    ax.set_yticks(np.arange(len(names_1)) + 0.5, names_1)
    ax.set_xlabel("layer of network b")
    ax.set_ylabel("layer of network a")
    ax.tick_params(length=0)
    ax.invert_yaxis()
    ax.grid(False)
    if label:
        bar = ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.85)
        bar.outline.set_visible(False)
    return ax


def over_layers(
    values: Float[ArrayLike, "*pairs layers"],
    layers: Sequence[str] | None = None,
    *,
    interval: tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot a number, such as the relative accuracy of a stitch, over the layers.

    Several pairs are drawn as thin lines and their mean as a thick one.

    Args:
        values: shape (layers,), or (pairs, layers).
        layers: names of the layers; by default their numbers.
        interval: lower and upper ends of a band around the line, shape (layers,) each.
        ax: axes to draw on; by default those of a new figure.
        **line: passed on to `ax.plot`.

    Returns:
        The axes.

    Raises:
        ValueError: if there are no values, or not as many names as layers.

    Example:
        >>> import stitching.plot
        >>> axes = stitching.plot.over_layers(
        ...     [[0.9, 0.8], [0.7, 1.0]], ["conv1", "conv2"], label="least squares"
        ... )
        >>> axes.lines[0].get_ydata().round(3).tolist()
        [0.8, 0.9]
    """
    values = np.atleast_1d(np.asarray(values, np.float64))
    if not values.size:
        raise ValueError(
            f"values: expected a number for each layer, got shape {values.shape}"
        )
    rows = values.reshape(-1, values.shape[-1])
    names = _names("layers", layers, rows.shape[1])
    ax = plt.subplots()[1] if ax is None else ax
    x = np.arange(len(names))
    look: dict[str, Any] = {"marker": "o", "markersize": 3.6} | line
    mean = ax.plot(x, rows.mean(axis=0), **look)[0]
    if len(rows) > 1:
        thin = {"color": mean.get_color(), "linewidth": 0.6, "alpha": 0.35}
        ax.plot(x, rows.T, zorder=mean.get_zorder() - 1, **thin)
    if interval is not None:
        low, high = (np.asarray(end, np.float64) for end in interval)
        ax.fill_between(x, low, high, color=mean.get_color(), alpha=0.15, linewidth=0)
    many = len(names) > 5 or max(map(len, names)) > 7
    turned = {"rotation": 35, "ha": "right"} if many else {}
    ax.set_xticks(x, names, **turned)
    return ax


def _relative(measures: Any) -> Any:
    """The relative accuracy, or R² of regression."""
    if hasattr(measures, "relative_accuracy"):
        return measures.relative_accuracy
    return measures.relative_r_squared


def audit(
    found: Audit | Mapping[str, Audit], *, ax: Axes | None = None, **line: Any
) -> Axes:
    """Plot the relative accuracy of a stitch with that of its controls.

    Stitching network b to itself should reach 1; shuffled inputs and noise should stay
    at the accuracy of the best constant answer. For regression it is the relative R².

    Args:
        found: what `report.audit` returns, or such audits by layer.
        ax: axes to draw on; by default those of a new figure.
        **line: passed on to `ax.plot` for the line of the stitch.

    Returns:
        The axes.

    Raises:
        ValueError: if there is no audit.

    Example:
        >>> import stitching.plot
        >>> from types import SimpleNamespace as Record
        >>> def measures(accuracy):
        ...     return Record(relative_accuracy=accuracy)
        >>> controls = Record(
        ...     self_stitch=measures(1.0), untrained=None, shuffled=measures(0.1),
        ...     noise=measures(0.12))
        >>> found = Record(measures=measures(0.9), chance=0.1, controls=controls)
        >>> axes = stitching.plot.audit({"conv1": found, "conv2": found})
        >>> axes.get_legend_handles_labels()[1][:2]
        ['stitch', 'control: network b stitched to itself']
    """
    audits = found if isinstance(found, Mapping) else {"stitch": found}
    if not audits:
        raise ValueError("found: expected at least one audit, got none")
    names, each = list(audits), list(audits.values())
    stitch = np.array([_relative(one.measures) for one in each])
    ax = over_layers(stitch, names, ax=ax, **{"label": "stitch", "linewidth": 2} | line)
    for control, name in _CONTROLS.items():
        measured = [getattr(one.controls, control) for one in each]
        if all(one is not None for one in measured):
            values = np.array([_relative(one) for one in measured])
            dash: dict[str, Any] = {"linestyle": (0, (4, 1.5)), "markersize": 3}
            over_layers(values, names, ax=ax, label=f"control: {name}", **dash)
    chance = np.array([one.chance for one in each])
    look: dict[str, Any] = {
        "color": "0.5",
        "linestyle": ":",
        "marker": "",
        "linewidth": 1.5,
    }
    if len(each) == 1:
        look["marker"] = "_"
    over_layers(chance, names, ax=ax, label="a constant answer", **look)
    ax.set_ylabel("relative accuracy")
    ax.set_ylim(bottom=0)
    return ax


def _names(argument: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(layer) for layer in range(count)]
    if len(names) != count:
        raise ValueError(f"{argument}: expected {count} names, got {len(names)}")
    return list(names)
