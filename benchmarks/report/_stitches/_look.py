"""Colours of ways of matching and of layers, and lines over the layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from benchmarks.report._axes import shade
from benchmarks.report._numbers import array
from benchmarks.report._style import FAINT, Style, colour

# The maps that every pair has, by name.
WAYS = {
    "task loss: affine": Style("task loss", True, colour("rllc-2"), 2.1),
    "least squares": Style("least squares", True, colour("rllc-1"), 2.1),
    "Procrustes": Style("Procrustes", True, colour("rllc-3"), 1.8, (5, 1.5)),
    "reduced rank 0.25": Style(
        "a quarter of the rank", True, colour("rllc-4"), 1.8, (1.2, 1.4)
    ),
    "permutation": Style("permutation", False, colour("base-1"), 1.6, (4, 1.5)),
}


def ways(result: Mapping[str, Any]) -> dict[str, Style]:
    """The looks of those maps that a result has at every layer."""
    every = result["stitches"].values()
    return {
        name: style
        for name, style in WAYS.items()
        if all(name in maps for maps in every)
    }


def by_depth(names: Sequence[str]) -> dict[str, Style]:
    """A style for each layer, from early (dark) to late (light)."""
    tones = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(names)))
    return {
        name: Style(short(name), True, to_hex(tone), 1.7)
        for name, tone in zip(names, tones, strict=True)
    }


def short(layer: str) -> str:
    """A layer's name, short enough for a tick.

    Example:
        >>> short("_Block_3"), short("bn8"), short("encoder/Dense_0")
        ('block 3', 'bn8', 'Dense 0')
    """
    name = layer.rpartition("/")[2].lstrip("_").replace("_", " ")
    return name.lower() if layer.startswith("_") else name


def line_over_layers(
    axes: Axes, numbers: Sequence[Mapping[str, Any]], style: Style
) -> None:
    """Means over the layers; solid lines with their intervals as a band."""
    mean, low, high = (
        array([number[key] for number in numbers]) for key in ("mean", "low", "high")
    )
    places = np.arange(len(mean))
    axes.plot(places, mean, marker="o", markersize=3.6, **style.line)
    if not style.dash and np.isfinite([low, high]).all():
        axes.fill_between(places, low, high, **shade(style))


def name_layers(axes: Axes, names: Sequence[str]) -> None:
    """Layers along the horizontal axis."""
    many = len(names) > 5 or max(map(len, names)) > 7
    turned = {"rotation": 35, "ha": "right"} if many else {}
    axes.set_xticks(range(len(names)), [short(name) for name in names], **turned)
    axes.set_xlim(-0.3, len(names) - 0.7)


def at_network_2(axes: Axes) -> None:
    """A line where the stitched network does as well as network 2."""
    axes.axhline(1, color=FAINT, linewidth=0.9, linestyle=(0, (4, 2)))
