"""All classes of maps side by side, and the first steps of training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._stitches._look import at_network_2, by_depth
from benchmarks.report._style import FAINT, INK

_ROW = 0.25  # inches


def classes(result: dict[str, Any]) -> Figure:
    """Relative accuracy of every class of maps, a dot for each layer."""
    first = next(iter(result["stitches"].values()))
    rows = [name for name, entry in first.items() if entry["kind"] != "early"]
    panels = [Panel("Relative accuracy", _dots(result, rows), 0.9 + _ROW * len(rows))]
    if len(rows) < len(first):
        panels.append(Panel("From a random start", _early(result), 3.0))
    text = (
        "Every class of maps that was tried: a dot is the mean of a layer, early ones "
        "darker, the bar their mean. Numbers behind a name are the share of the full "
        "rank, the share of the largest penalty (sparse), or the penalty (sparse by "
        "task loss). Identity and mean use nothing that was fitted to the pair.",
        "Maps that are not on the first figure are of few pairs.",
    )
    looks = tuple(by_depth(list(result["stitches"])).values())
    return Figure("classes", "All classes of maps", text, tuple(panels), looks, True)


def _dots(result: dict[str, Any], rows: list[str]):
    def draw(axes: Axes) -> None:
        styles = by_depth(list(result["stitches"]))
        for place, name in enumerate(rows):
            values = []
            for layer, maps in result["stitches"].items():
                if name in maps:
                    values.append(maps[name]["relative_accuracy"]["mean"])
                    tone = styles[layer].colour
                    axes.plot(values[-1], place, "o", color=tone, markersize=4)
            axes.plot(np.mean(values), place, "|", color=INK, markersize=10)
        axes.set_yticks(range(len(rows)), rows, fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.axvline(1, color=FAINT, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.set_xlim(left=0)
        axes.grid(False, axis="y")
        axes.grid(True, axis="x")

    return draw


def _early(result: dict[str, Any]):
    def draw(axes: Axes) -> None:
        styles = by_depth(list(result["stitches"]))
        for layer, maps in result["stitches"].items():
            steps, values = _history(maps, result["config"]["steps"])
            axes.plot(steps, values, marker="o", markersize=3, **styles[layer].line)
        at_network_2(axes)
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xticks(steps, [f"{step:.0f}" for step in steps])
        axes.set_ylim(0, 1.06)
        axes.set_xlabel("steps of task-loss matching", loc="left")

    return draw


def _history(maps: Mapping[str, Any], steps: int) -> np.ndarray:
    found = [
        (entry["at"], entry["relative_accuracy"]["mean"])
        for entry in maps.values()
        if entry["kind"] == "early"
    ]
    end = maps["task loss: affine from random"]["relative_accuracy"]["mean"]
    return np.array([*found, (steps, end)], float).T
