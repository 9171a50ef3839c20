"""The way from one network to another: barriers and losses under the controls."""

from typing import Any

from matplotlib.axes import Axes

from benchmarks.report._combinations._look import CONTROLS, grouped
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array

_METRICS = {"test_loss": "test loss", "test_error": "test error"}


def barriers(result: dict[str, Any]) -> Figure:
    """Barrier heights by width and control."""
    panels = [
        Panel(f"Barrier, {name}", _heights(result, metric))
        for metric, name in _METRICS.items()
    ]
    text = (
        "The barrier is the greatest excess of the loss on the segment between two "
        "networks over the straight line between the ends' losses. Bars are means over "
        "all pairs, whiskers 95 % intervals over networks.",
        "A temperature is fitted at every point on calibration rows; it cannot change "
        "the error. Repaired means REPAIR, or, with BatchNorm, its statistics reset.",
    )
    looks = tuple(CONTROLS.values())
    return Figure("barriers", "Barriers, by width", text, tuple(panels), looks)


def _heights(result: dict[str, Any], metric: str):
    def draw(axes: Axes) -> None:
        widths = list(result["widths"])
        rows = {
            name: [
                result["widths"][width]["controls"]["barriers"][name][metric]
                for width in widths
            ]
            for name in CONTROLS
        }
        grouped(axes, widths, rows, CONTROLS)
        axes.set_xlabel("width", loc="left")

    return draw


def segments(result: dict[str, Any]) -> Figure:
    """Mean losses along the segments."""
    panels = [
        Panel(f"Test loss, width {width}", _curves(found["controls"]))
        for width, found in result["widths"].items()
    ]
    text = (
        "Test loss along the segment from one network (0) to the other (1), mean over "
        "all pairs.",
        "The mean of curves whose peaks differ in place is lower than the mean of the "
        "peaks: barriers are in the figure above.",
    )
    looks = tuple(CONTROLS.values())
    return Figure(
        "segments", "From one network to the other", text, tuple(panels), looks
    )


def _curves(controls: dict[str, Any]):
    def draw(axes: Axes) -> None:
        for name, style in CONTROLS.items():
            losses = array(controls["curves"][name]["test_loss"])
            axes.plot(controls["fractions"], losses, **style.line)
        axes.set_xlabel("fraction of the way", loc="left")
        axes.set_ylim(bottom=0)

    return draw
