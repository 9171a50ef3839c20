"""Plots of barriers, planes and combinations.

They need Matplotlib: `pip install 'jax-between[plot]'`. The fraction 0 is a, 1 is b.
Each function draws on `ax`, by default that of a new figure, and returns it; what it
takes as `**line` is passed on to `ax.plot`. Where the metric's value is a dict, `leaf`
names the entry to plot; one that is not there raises a ValueError.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree

from combinability import Barrier, Robustness

try:
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError(
        "combinability.plot: expected Matplotlib; install it with "
        "pip install 'jax-between[plot]'"
    ) from error

__all__ = [
    "barrier",
    "by_width",
    "hypercube",
    "matrix",
    "plane",
    "robustness",
    "round_levels",
]

_MAP = "viridis"


def barrier(
    found: Barrier | Sequence[Barrier],
    leaf: str | None = None,
    *,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the metric along the segment from one network to another.

    Several pairs are drawn as thin lines, their mean as a thick one, and from four
    pairs on the middle half of them as a band.

    Args:
        found: what `barrier` returns, or a list with one entry per pair of networks.
        leaf, ax, **line: see above.

    Example:
        >>> import jax.numpy as jnp, combinability, combinability.plot
        >>> loss = lambda v: {"loss": (v["w"] ** 2 - 1) ** 2}
        >>> a, b = {"w": jnp.array(-1.0)}, {"w": jnp.array(1.0)}
        >>> found = combinability.barrier(loss, a, b, points=5)
        >>> axes = combinability.plot.barrier(found, "loss")
        >>> axes.lines[0].get_ydata().tolist()
        [0.0, 0.5625, 1.0, 0.5625, 0.0]
    """
    each = [found] if isinstance(found, Barrier) else list(found)
    name = "fraction of the segment (0: a, 1: b)"
    x = np.asarray(each[0].fractions)
    return _lines(x, [one.losses for one in each], leaf, name, ax, line)


def plane(
    x: Float[ArrayLike, " x"],
    y: Float[ArrayLike, " y"],
    values: Float[ArrayLike, "y x"],
    marks: Float[ArrayLike, "networks 2"] | None = None,
    names: Sequence[str] = ("a", "b", "c"),
    *,
    label: str = "",
    levels: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot a metric on a plane through parameter space as contours of round levels.

    Args:
        x, y: horizontal and vertical coordinates, shapes (x,) and (y,).
        values: the metric at each point, shape (y, x).
        marks, names: coordinates and names of the networks that span the plane.
        label: what the colour bar shows.
        levels: contour levels; by default at most ten round ones, as 1, 2, 5, 10, …
            where the largest value is more than 4 times the smallest.

    Example:
        >>> import numpy as np, combinability.plot
        >>> x = np.linspace(-1, 1, 9)
        >>> axes = combinability.plot.plane(x, x, x**2 + x[:, None] ** 2, [[0, 0]], "a")
        >>> [text.get_text() for text in axes.texts]
        ['a']
    """
    values = np.asarray(values, np.float64)
    edges = round_levels(values) if levels is None else np.asarray(levels)
    ax = plt.subplots()[1] if ax is None else ax
    norm = BoundaryNorm(edges, matplotlib.colormaps[_MAP].N)
    drawn = ax.contourf(x, y, values, edges, cmap=_MAP, norm=norm)
    ax.contour(x, y, values, edges, colors="white", linewidths=0.4)
    bar = ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.85, ticks=edges)
    bar.ax.set_yticklabels([f"{level:g}" for level in edges])
    bar.outline.set_visible(False)
    place = {"xytext": (5, 5), "textcoords": "offset points", "weight": "bold"}
    points = np.empty((0, 2)) if marks is None else np.asarray(marks)
    for name, mark in zip(names, points, strict=False):
        ax.plot(*mark, "o", color="white", markeredgecolor="black", markersize=6)
        ax.annotate(name, tuple(mark), color="white", **place)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    return ax


def hypercube(
    values: Mapping[str, Float[ArrayLike, " samples"]],
    parents: Float[ArrayLike, " networks"] | None = None,
    *,
    tolerance: float = 0.0,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the distribution of a metric over combinations, one row per entry.

    A thin line reaches from the 5th to the 95th percentile, a thick one from the 25th
    to the 75th, and a dot marks the median.

    Args:
        values: name of a distribution -> what `evaluate` returns for it, or one leaf
            of that; NaN are left out.
        parents: the metric of the networks that were combined; a shaded band spans
            them.
        tolerance: how far the band extends beyond the mean of the parents.

    Example:
        >>> import numpy as np, combinability.plot
        >>> axes = combinability.plot.hypercube({"uniform": np.arange(101.0)})
        >>> [line.get_xdata().tolist() for line in axes.lines]
        [[5.0, 95.0], [25.0, 75.0], [50.0]]
    """
    ax = plt.subplots()[1] if ax is None else ax
    if parents is not None:
        parents = np.asarray(parents)
        end = max(parents.max(), parents.mean() + tolerance)
        ax.axvspan(parents.min(), end, color="0.5", alpha=0.2, linewidth=0, zorder=0)
    thin: dict[str, Any] = {"color": "C0", "linewidth": 1.2} | line
    thick: dict[str, Any] = thin | {"linewidth": 4.5}
    ink = {"color": matplotlib.rcParams["text.color"], "linestyle": "none"}
    dot: dict[str, Any] = thin | ink | {"marker": "o", "markersize": 3.6, "zorder": 4}
    for place, found in enumerate(values.values()):
        low, left, middle, right, high = np.nanpercentile(found, [5, 25, 50, 75, 95])
        ax.plot([low, high], [place, place], **thin)
        ax.plot([left, right], [place, place], **thick)
        ax.plot([middle], [place], **dot)
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(False, axis="y")
    return ax


def robustness(
    found: Robustness | Sequence[Robustness],
    leaf: str | None = None,
    *,
    what: str = "losses",
    against: str = "moved",
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the metric of combinations while the matching is perturbed.

    Each trial, and each pair where several are given, is drawn as a thin line, the
    mean as a thick one.

    Args:
        found: what `robustness` returns, or a list with one entry per pair.
        what: `"losses"`, the mean metric over the combinations, or `"barrier"`.
        against: the horizontal axis: `"moved"`, the share of units that were moved, or
            `"lost"`, the share of the matching objective that was lost.

    Raises:
        ValueError: if `what` or `against` is none of these.

    Example:
        >>> import numpy as np, combinability, combinability.plot
        >>> found = combinability.Robustness(
        ...     fractions=np.array([0.0, 0.5]), moved=np.array([[0.0], [0.5]]),
        ...     lost=np.array([[0.0], [0.4]]), barrier=np.array([[0.0], [0.1]]),
        ...     losses=np.array([[[0.1, 0.1]], [[0.2, 0.4]]]), matched=1.0, chance=0.0,
        ... )
        >>> axes = combinability.plot.robustness(found)
        >>> axes.lines[0].get_ydata().round(3).tolist()
        [0.1, 0.3]
    """
    names = {
        "moved": "share of units moved",
        "lost": "share of the matching objective lost",
    }
    for name, value, allowed in (
        ("what", what, ("losses", "barrier")),
        ("against", against, tuple(names)),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: expected one of {allowed}, got {value!r}")
    each = [found] if isinstance(found, Robustness) else list(found)
    x = np.mean([np.mean(getattr(one, against), axis=1) for one in each], axis=0)
    trees = [getattr(one, what) for one in each]
    if what == "losses":
        trees = [jax.tree.map(lambda values: values.mean(axis=2), t) for t in trees]
    return _lines(x, trees, leaf, names[against], ax, line)


def by_width(
    widths: Sequence[int],
    mean: Float[ArrayLike, "widths"],
    interval: Float[ArrayLike, "2 widths"] | None = None,
    *,
    bound: float | None = None,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot a number against the width of the networks, on a logarithmic axis.

    Args:
        widths: hidden units, or multipliers of channels.
        mean: the number at each width, such as the mean excess error.
        interval: lower and upper ends, drawn as bars.
        bound: a level to mark, such as the excess that still counts as working.
        ax, **line: see above.

    Example:
        >>> import combinability.plot
        >>> axes = combinability.plot.by_width([64, 128, 256], [8.5, 2.2, 0.8], bound=2)
        >>> [label.get_text() for label in axes.get_xticklabels()]
        ['64', '128', '256']
    """
    mean = np.asarray(mean, np.float64)
    ends = None if interval is None else np.abs(np.asarray(interval) - mean)
    ax = plt.subplots()[1] if ax is None else ax
    look: dict[str, Any] = {"marker": "o", "markersize": 5, "capsize": 2.5} | line
    ax.errorbar(np.log2(widths), mean, ends, **look)
    if bound is not None:
        ax.axhline(bound, color="0.5", linewidth=1.0, linestyle="dashed", zorder=0)
    ax.set_xticks(np.log2(widths), [str(width) for width in widths])
    ax.set_xlabel("width")
    return ax


def matrix(
    values: Float[ArrayLike, "networks networks"],
    names: Sequence[str] | None = None,
    *,
    label: str = "",
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot a number for every pair of networks, such as the barriers of `transitivity`.

    Args:
        values: one number per pair, shape (networks, networks); NaN are left blank.
        names: of the networks; by default their numbers.
        label: what the colour bar shows; without one there is no colour bar.
        limits: values of the lowest and the highest colour; by default 0 and the
            largest value.

    Example:
        >>> import combinability.plot
        >>> axes = combinability.plot.matrix([[0.0, 0.25], [0.25, 0.0]])
        >>> [text.get_text() for text in axes.texts]
        ['0', '0.25', '0.25', '0']
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(
            f"values: expected shape (networks, networks), got {values.shape}"
        )
    low, high = limits or (0.0, float(np.nanmax(values)) or 1.0)
    ax = plt.subplots()[1] if ax is None else ax
    drawn = ax.pcolormesh(values, cmap=_MAP, vmin=low, vmax=high)
    places = np.arange(len(values)) + 0.5
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > low + 0.6 * (high - low) else "white"
            place = {"ha": "center", "va": "center", "fontsize": 8}
            ax.text(j + 0.5, i + 0.5, f"{value:.3g}", color=colour, **place)
    names = [str(i) for i in range(len(values))] if names is None else list(names)
    ax.set_xticks(places, names)
    ax.set_yticks(places, names)
    ax.tick_params(length=0)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.grid(False)
    if label:
        ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.85).outline.set_visible(
            False
        )
    return ax


def _lines(x, trees, leaf: str | None, name: str, ax: Axes | None, line: dict) -> Axes:
    """Plot a leaf (x, …) of trees: thin lines, their mean and the middle half."""
    rows = [np.asarray(_leaf(tree, leaf)).reshape(len(x), -1).T for tree in trees]
    rows = np.concatenate(rows)
    ax = plt.subplots()[1] if ax is None else ax
    thick: dict[str, Any] = {"linewidth": 2.0} | line
    mean = ax.plot(x, rows.mean(axis=0), **thick)[0]
    thin: dict[str, Any] = {"color": mean.get_color(), "linewidth": 0.6, "alpha": 0.35}
    if len(rows) > 1:
        ax.plot(x, rows.T, zorder=mean.get_zorder() - 1, **thin)
    if len(rows) > 3:
        ends = np.quantile(rows, [0.25, 0.75], axis=0)
        ax.fill_between(x, *ends, color=mean.get_color(), alpha=0.15, linewidth=0)
    ax.set_xlabel(name)
    if leaf is not None:
        ax.set_ylabel(leaf)
    return ax


def _leaf(tree: PyTree, leaf: str | None) -> Any:
    if leaf is None and not isinstance(tree, Mapping):
        return tree
    if not isinstance(tree, Mapping) or leaf not in tree:
        held = list(tree) if isinstance(tree, Mapping) else "a single number"
        raise ValueError(f"leaf: expected one of {held}, got {leaf!r}")
    return tree[leaf]


def round_levels(values: np.ndarray) -> np.ndarray:
    """At most ten round levels from below the smallest value to above the largest."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low <= 0 or high < 4 * low:
        ticks = MaxNLocator(10, steps=[1, 2, 5, 10]).tick_values(low, high)
        return np.array(list(ticks))
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    levels = np.empty(0)
    for digits in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        levels = np.outer(decades, digits).ravel()
        first = np.searchsorted(levels, low, "right") - 1
        levels = levels[first : np.searchsorted(levels, high) + 1]
        if len(levels) <= 10:
            break
    return levels
