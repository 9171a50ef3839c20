"""Do indices of similarity tell how well a stitch does?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._stitches._look import WAYS, by_depth
from benchmarks.report._style import FAINT

_SHOWN = {"CKA": "CKA", "CCA": "Mean squared CCA correlation"}
_MAPS = ("task loss: affine", "least squares")
_BY = "task loss: affine"
_ROW = 0.3  # inches


def indices(result: dict[str, Any]) -> Figure:
    """Indices against relative accuracy, and all rank correlations."""
    scatters = [
        Panel(f"{index} and task loss", _scatter(result, index)) for index in _SHOWN
    ]
    count = len(result["correlations"][_BY])
    whole = Panel(
        "Rank correlation over layers", _correlations(result), 0.9 + _ROW * count
    )
    mean = {i: result["correlations"][_BY][i]["mean"] for i in _SHOWN}
    told = " and ".join(
        f"{index} {'–' if value is None else f'{value:.2f}'.replace('-', '−')}"
        for index, value in mean.items()
    )
    text = (
        "Each dot is a pair of networks at a layer, early layers darker. If an index "
        "told how well the networks can be stitched, dots would rise from left to "
        "right. Spearman's correlation over the layers of a pair, mean over pairs: "
        f"{told}.",
        "The last panel has this correlation for every index, with 95 % intervals "
        "over networks, against relative accuracy by task loss and by least squares. "
        "Indices are of held-out rows; positions of maps are samples, or else whole "
        "images are.",
        "Correlations over a handful of layers are coarse, and depth is behind both.",
    )
    looks = tuple(WAYS[name] for name in _MAPS)
    return Figure("indices", "Indices and performance", text, (*scatters, whole), looks)


def _scatter(result: dict[str, Any], index: str):
    def draw(axes: Axes) -> None:
        styles = by_depth(list(result["stitches"]))
        for layer, maps in result["stitches"].items():
            x = array(result["indices"][layer][index]["pairs"])
            y = array(maps[_BY]["relative_accuracy"]["pairs"])
            axes.plot(x, y, "o", color=styles[layer].colour, markersize=4.2, alpha=0.85)
        axes.set_xlabel(_SHOWN[index], loc="left")
        axes.set_ylabel("relative accuracy", loc="bottom")

    return draw


def _correlations(result: dict[str, Any]):
    def draw(axes: Axes) -> None:
        names = list(result["correlations"][_BY])
        for shift, map_ in ((-0.14, _MAPS[0]), (0.14, _MAPS[1])):
            tone = WAYS[map_].colour
            for place, index in enumerate(names):
                number = result["correlations"][map_][index]
                mean, low, high = array([number[k] for k in ("mean", "low", "high")])
                if np.isfinite([low, high]).all():
                    ends = np.clip([low, high], -1, 1)
                    axes.plot(ends, [place + shift] * 2, color=tone, linewidth=1.4)
                axes.plot(mean, place + shift, "o", color=tone, markersize=4.5)
        axes.axvline(0, color=FAINT, linewidth=0.9)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(-1.05, 1.05)
        axes.grid(False, axis="y")
        axes.grid(True, axis="x")

    return draw
