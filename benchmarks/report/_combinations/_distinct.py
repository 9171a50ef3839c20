"""Are combinations different from their parents, and from one another?"""

from typing import Any

from matplotlib.axes import Axes

from benchmarks.report._combinations._look import grouped
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._style import Style, colour

_KINDS = {
    "seeds": Style("two networks", False, colour("base-1"), 1.6),
    "parents": Style("combination and parent", True, colour("rllc-1"), 2.0),
    "combinations": Style("two combinations", True, colour("rllc-3"), 2.0),
}
_MEASURES = {
    "disagreement": "Disagreement",
    "jensen_shannon": "Jensen–Shannon divergence, nats",
    "error_overlap": "Overlap of errors",
    "cka": "CKA of the logits",
    "cosine": "Cosine of the weights",
}


def differences(result: dict[str, Any]) -> Figure:
    """Every measure by width."""
    panels = tuple(
        Panel(name, _drawing(result, measure)) for measure, name in _MEASURES.items()
    )
    text = (
        "Uniform random combinations of two aligned networks against their parents and "
        "against one another, beside the two networks themselves: what two seeds "
        "differ by is the scale. Outputs are compared on test rows. Disagreement: "
        "another predicted class. Overlap: rows that both get wrong over rows that "
        "either does.",
        "Where combinations do not work, they differ for that reason alone.",
    )
    looks = tuple(_KINDS.values())
    return Figure("differences", "Are combinations different?", text, panels, looks)


def _drawing(result: dict[str, Any], measure: str):
    def draw(axes: Axes) -> None:
        rows = {
            kind: [
                found["difference"][kind][measure]
                for found in result["widths"].values()
            ]
            for kind in _KINDS
        }
        grouped(axes, list(result["widths"]), rows, _KINDS)
        axes.set_xlabel("width", loc="left")

    return draw
