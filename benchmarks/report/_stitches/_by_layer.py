"""What stitches do, layer by layer."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from benchmarks.report._figure import Figure, Panel
from benchmarks.report._stitches._look import (
    at_network_2,
    line_over_layers,
    name_layers,
    ways,
)
from benchmarks.report._style import INK

_MEASURES = {
    "relative_accuracy": "Relative accuracy",
    "agreement": "Agreement with network 2",
}


def by_layer(result: dict[str, Any]) -> Figure:
    """Relative accuracy and agreement by layer, for the maps that every pair has."""
    panels = tuple(
        Panel(title, _drawing(result, measure)) for measure, title in _MEASURES.items()
    )
    text = (
        "The front of network 1, up to a layer, joined to the back of network 2 by a "
        "map of channels that is fitted on training rows. Relative accuracy is the "
        "stitched network's test accuracy over network 2's; agreement is the share of "
        "test rows with the same predicted class. Means over the pairs; bands (of the "
        "solid lines) are 95 % intervals over networks.",
        "Task loss trains all entries of the map through network 2's frozen back, "
        "from least squares on. A quarter of the rank is the best such map in least "
        "squares.",
    )
    looks = tuple(ways(result).values())
    return Figure("layers", "Layer by layer", text, panels, looks)


def taste(found: dict[str, Any]) -> Figure:
    """Two networks stitched at every layer, and what an index says of the layers."""
    panels = (
        Panel("Relative accuracy", _drawing(found, "relative_accuracy"), 2.6),
        Panel("Linear CKA of the two activations", _similarity(found["CKA"]), 2.6),
    )
    text = (
        "Two networks trained from different seeds; the front of one joined to the "
        "back of the other at each layer, by a map that is fitted directly or trained "
        "on the task. At 1 the stitched network does as well as the second one by "
        "itself. Beside it, how alike the layers are by an index that knows nothing of "
        "the task.",
        "One pair of small networks on an easy task; on harder ones an index and "
        "performance need not go together.",
    )
    looks = tuple(ways(found).values())
    return Figure("stitches", "One network continued by another", text, panels, looks)


def _drawing(result: dict[str, Any], measure: str):
    def draw(axes: Axes) -> None:
        for name, style in ways(result).items():
            numbers = [maps[name][measure] for maps in result["stitches"].values()]
            line_over_layers(axes, numbers, style)
        name_layers(axes, list(result["stitches"]))
        at_network_2(axes)
        axes.set_ylim(0, 1.06)

    return draw


def _similarity(values: Mapping[str, float]):
    def draw(axes: Axes) -> None:
        places = range(len(values))
        axes.plot(places, list(values.values()), "o-", color=INK, markersize=3.6)
        name_layers(axes, list(values))
        axes.set_ylim(0, 1.06)

    return draw
