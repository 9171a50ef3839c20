"""Transitivity: networks matched to a third, as they then stand to each other."""

from typing import Any

from matplotlib.axes import Axes

from benchmarks.report._combinations._look import grouped
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._style import INK, PAGE, Style, colour

_WAYS = {
    "unmatched": Style("not matched", False, colour("base-1"), 1.6),
    "direct": Style("matched to each other", True, colour("rllc-1"), 2.0),
    "through": Style("both matched to a third", True, colour("rllc-2"), 2.0),
}


def transitivity(result: dict[str, Any]) -> Figure:
    """Barriers by way of matching, and the matrix of the largest width."""
    width, found = list(result["widths"].items())[-1]
    panels = (
        Panel("Barrier, test error", _bars(result)),
        Panel("Units that a round trip moves", _cycles(result)),
        Panel(f"Matched to network 0, width {width}", _matrix(found), 3.2),
    )
    text = (
        "Barriers between two networks as they are, matched to each other, and both "
        "matched to a third one. A round trip composes the matchings of a triple of "
        "networks; where matching is transitive it moves no unit. The matrix shows the "
        "barriers in percentage points of test error among networks that are all "
        "matched to network 0.",
        "Of random permutations a round trip would move nearly all units. Moved units "
        "need not matter: some are alike, and some are dead.",
    )
    looks = tuple(_WAYS.values())
    return Figure("transitivity", "Transitivity", text, panels, looks)


def _bars(result: dict[str, Any]):
    def draw(axes: Axes) -> None:
        rows = {
            way: [
                found["transitivity"]["barriers"][way]["test_error"]
                for found in result["widths"].values()
            ]
            for way in _WAYS
        }
        grouped(axes, list(result["widths"]), rows, _WAYS)
        axes.set_xlabel("width", loc="left")

    return draw


def _cycles(result: dict[str, Any]):
    def draw(axes: Axes) -> None:
        for place, found in enumerate(result["widths"].values()):
            cycles = found["transitivity"]["cycles"].values()
            defects = [100 * cycle["mean"] for cycle in cycles]
            axes.plot([place] * len(defects), defects, "o", color=colour("rllc-2"))
        axes.set_xticks(range(len(result["widths"])), list(result["widths"]))
        axes.set_xlim(-0.5, len(result["widths"]) - 0.5)
        axes.set_ylim(0, 103)
        axes.set_xlabel("width; a dot for each group of units, in percent", loc="left")

    return draw


def _matrix(found: dict[str, Any]):
    def draw(axes: Axes) -> None:
        heights = 100 * array(
            found["transitivity"]["matrices"]["through_first"]["test_error"]
        )
        axes.imshow(heights, cmap="viridis", vmin=0)
        crowded = len(heights) > 6
        for i, row in enumerate(heights):
            for j, height in enumerate(row):
                bright = height > 0.6 * heights.max()
                text = f"{height:.0f}" if crowded else f"{height:.1f}"
                axes.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=INK if bright else PAGE,
                )
        count = len(heights)
        axes.set_xticks(range(count))
        axes.set_yticks(range(count))
        axes.grid(False)

    return draw
