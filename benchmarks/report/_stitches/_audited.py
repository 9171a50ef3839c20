"""May the stitches be believed?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.report._axes import round_log_ticks
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array
from benchmarks.report._stitches._look import (
    WAYS,
    at_network_2,
    line_over_layers,
    name_layers,
    ways,
)
from benchmarks.report._style import Style, colour

_CONTROLS = {
    "self_stitch": ("self-stitch", "rllc-6"),
    "untrained": ("untrained network 1", "rllc-5"),
    "shuffled": ("shuffled inputs", "base-2"),
    "noise": ("noise", "base-1"),
}
_METHODS = {"least squares": "least squares", "task loss": "task loss: affine"}


def audit(result: dict[str, Any]) -> Figure:
    """Residuals, distances from network 2's own activations, and controls."""
    panels = [
        Panel("Residual, held out", _lines(result, "residual")),
        Panel("Distance from network 2's own", _lines(result, "distance")),
    ]
    looks = [*ways(result).values()]
    found = result["audit"]
    if found:
        panels += [
            Panel(f"Controls, {method}", _controls(found["layers"], method))
            for method in _METHODS
        ]
        looks += [_style(name) for name in _CONTROLS]
    text = (
        "A high accuracy alone does not show that two networks hold the same. The "
        "residual is the share of the variance of network 2's own activation that the "
        "map leaves (1: as bad as the mean). The distance is the mean squared "
        "Mahalanobis distance of what the map gives from network 2's own activations, "
        "whose own is 1; least squares draws towards the mean, so it lies below, and "
        "above 1 network 2 is given what it never has itself. Both logarithmic.",
        "Controls are relative accuracies of the same procedure where the answer is "
        "known: network 2 stitched to itself must reach 1; activations of other inputs "
        "and Gaussian noise must stay at chance; an untrained network 1 shows how far "
        "random features get.",
        "Controls are of few pairs and fitted on fewer rows than the rest.",
    )
    return Figure("audit", "May it be believed?", text, tuple(panels), tuple(looks))


def _lines(result: dict[str, Any], measure: str):
    def draw(axes: Axes) -> None:
        axes.set_yscale("log")
        for name, style in ways(result).items():
            numbers = [maps[name][measure] for maps in result["stitches"].values()]
            line_over_layers(axes, [_positive(number) for number in numbers], style)
        name_layers(axes, list(result["stitches"]))
        at_network_2(axes)
        if measure == "residual":
            axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-3))
        round_log_ticks(axes)

    return draw


def _positive(number: dict[str, Any]) -> dict[str, Any]:
    """On a logarithmic axis an interval that reaches below zero ends far down."""
    mean = number["mean"]
    low = number["low"]
    return {**number, "low": None if low is None else max(low, mean / 30)}


def _controls(layers: dict[str, Any], method: str):
    def draw(axes: Axes) -> None:
        places = np.arange(len(layers))
        own = [found[method]["relative_accuracy"] for found in layers.values()]
        axes.plot(places, own, marker="o", markersize=3.6, **_main(method).line)
        for name in _CONTROLS:
            values = array([f[method]["controls"][name] for f in layers.values()])
            axes.plot(places, values, marker="o", markersize=3, **_style(name).line)
        name_layers(axes, list(layers))
        at_network_2(axes)
        axes.set_ylim(0, 1.06)

    return draw


def _main(method: str) -> Style:
    return WAYS[_METHODS[method]]


def _style(control: str) -> Style:
    label, tone = _CONTROLS[control]
    return Style(f"control: {label}", False, colour(tone), 1.5, (4, 1.5))
