"""The papers' claims about stitching, and whether a run supports them.

The criteria are ours, fixed before any run. Each claim is a number that must be at
most, or at least, a bound: it holds if the whole 95 % interval over networks is on the
right side, does not if the whole interval is on the wrong side, and is undecided
otherwise. The worst layer is the one with the lowest mean, which makes its interval
conservative.

The first four are of Csiszárik et al., 2021: networks of one architecture match by one
affine layer, task loss finds better maps than least squares, a low rank is enough, and
indices disagree with performance. The last two are of Balogh and Jelasity, 2024: maps
trained on the task leave the distribution of the second network's activations, and
direct matching identifies the same layer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.intervals import Pair, judged, over_networks
from benchmarks.stitching._maps import LEAST_SQUARES, TASK_LOSS
from benchmarks.stitching._summary import Layers

# Matched: at least this relative accuracy.
MATCHED = 0.9
# A low rank is this share of the full one, and enough if it reaches this share of the
# full rank's accuracy.
LOW_RANK, ENOUGH = 0.25, 0.95
# An index agrees with performance if the rank correlation is above this.
AGREES = 0.5
# A layer is identified in at least this fraction of cases.
FOUND = 0.9


def claims(
    pairs: Sequence[Pair], layers: Layers, summary: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the claims.

    Args:
      pairs: The pairs.
      layers: The scores of each pair, by layer and map.
      summary: "stitches", "correlations" and "cross" of a `Result`.
    """
    rows = [
        *_matched(summary),
        _task_loss_beats_least_squares(pairs, layers),
        *_low_rank(pairs, layers),
        *_indices(summary),
        _out_of_distribution(pairs, layers),
        *_identified(summary),
    ]
    return [judged(*row) for row in rows]


def _matched(summary: Mapping[str, Any]):
    for name, how in ((TASK_LOSS, "task loss"), (LEAST_SQUARES, "least squares")):
        relative = {
            layer: maps[name]["relative_accuracy"]
            for layer, maps in summary["stitches"].items()
        }
        worst = min(relative, key=lambda layer: _or_worst(relative[layer]["mean"]))
        claim = f"networks match by one affine layer: {how}"
        measure = f"relative accuracy at the worst layer, {worst}"
        yield claim, measure, relative[worst], MATCHED, "at least"


def _or_worst(mean: float | None) -> float:
    """A relative accuracy; the worst where network b classifies nothing correctly."""
    return -math.inf if mean is None else mean


def _task_loss_beats_least_squares(pairs: Sequence[Pair], layers: Layers):
    number = _over_layers(
        pairs, layers, TASK_LOSS, LEAST_SQUARES, "accuracy", lambda x, y: x - y
    )
    measure = "accuracy of task loss minus that of least squares, mean over layers"
    return "task loss finds better maps", measure, number, 0.0, "at least"


def _low_rank(pairs: Sequence[Pair], layers: Layers):
    for full, name in ((LEAST_SQUARES, "reduced rank"), (TASK_LOSS, "low rank")):
        low = _low(layers, name)
        if low is None:
            continue
        having = [place for place, _ in enumerate(pairs) if _has(layers, place, low)]
        number = _over_layers(
            [pairs[place] for place in having],
            {layer: [of[place] for place in having] for layer, of in layers.items()},
            low,
            full,
            "accuracy",
            lambda x, y: x / y,
        )
        how = "least squares" if full == LEAST_SQUARES else "task loss"
        measure = f"accuracy at {LOW_RANK:.0%} of the rank over that at full rank"
        yield f"a low rank is enough: {how}", measure, number, ENOUGH, "at least"


def _indices(summary: Mapping[str, Any]):
    for index in ("CKA", "CCA"):
        number = summary["correlations"][TASK_LOSS][index]
        measure = "rank correlation with relative accuracy by task loss, over layers"
        yield f"{index} disagrees with performance", measure, number, AGREES, "at most"
    if summary["cross"]:
        number = summary["cross"]["correlations"]["CKA"]
        measure = "rank correlation with relative accuracy, over all pairs of layers"
        yield "CKA disagrees, layer to layer", measure, number, AGREES, "at most"


def _out_of_distribution(pairs: Sequence[Pair], layers: Layers):
    number = _over_layers(pairs, layers, TASK_LOSS, LEAST_SQUARES, "distance", _orders)
    measure = "orders of magnitude farther from network 2's own than least squares"
    claim = "task loss leaves what network 2 knows"
    return claim, measure, number, 0.0, "at least"


def _orders(x: float, y: float) -> float:
    return math.log10(x / y)


def _identified(summary: Mapping[str, Any]):
    if summary["cross"]:
        number = summary["cross"]["identification"]["r_squared"]
        measure = "share of layers that least squares explains best from the same layer"
        yield "direct matching finds the layer", measure, number, FOUND, "at least"


def _over_layers(
    pairs: Sequence[Pair],
    layers: Layers,
    one: str,
    other: str,
    measure: str,
    compared: Callable[[float, float], float],
) -> dict[str, Any]:
    """Compare two maps in each pair; the mean over layers, with an interval."""
    values = []
    for place, _ in enumerate(pairs):
        maps = [of[place] for of in layers.values()]
        each = [compared(m[one][measure], m[other][measure]) for m in maps]
        values.append(sum(each) / len(each))
    return over_networks(pairs, values)


def _low(layers: Layers, kind: str) -> str | None:
    """The map of the low rank, by name."""
    maps = next(iter(layers.values()))[0]
    found = [
        n for n, m in maps.items() if (m["kind"], m["setting"]) == (kind, LOW_RANK)
    ]
    return found[0] if found else None


def _has(layers: Layers, place: int, name: str) -> bool:
    return all(name in of[place] for of in layers.values())
