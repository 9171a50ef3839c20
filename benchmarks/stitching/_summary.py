"""Means over pairs of networks, with intervals, and the papers' claims about them.

The criteria of claims are ours, fixed before any run. Each is a number that must be at
most, or at least, a bound: it holds if the whole 95 % interval over networks is on the
right side, does not if the whole interval is on the wrong side, and is undecided
otherwise. The worst layer is the one with the lowest mean, which makes its interval
conservative.

The first four are of Csiszárik et al., 2021: networks of one architecture match by one
affine layer, task loss finds better maps than least squares, a low rank is enough, and
indices disagree with performance. The last three are of Balogh and Jelasity, 2024: maps
trained on the task leave the distribution of the second network's activations, and
direct matching identifies the same layer, where task loss may rate distant ones alike.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.intervals import (
    Pair,
    interval_of,
    judged,
    mean_rank_correlation,
    over_networks,
    rank_correlation,
)
from benchmarks.stitching._maps import LEAST_SQUARES, TASK_LOSS
from stitching import report

# Matched: at least this relative accuracy.
MATCHED = 0.9
# A low rank is this share of the full one, and enough if it reaches this share of the
# full rank's accuracy.
LOW_RANK, ENOUGH = 0.25, 0.95
# An index agrees with performance if the rank correlation is above this.
AGREES = 0.5
# A layer is identified in at least this fraction of cases.
FOUND = 0.9
# By layer, the value of each pair.
Layers = Mapping[str, Sequence[Mapping[str, Any]]]
# What an index may predict: a map, a measure of it, and the sign that makes it better.
PREDICTED = {
    LEAST_SQUARES: (LEAST_SQUARES, "relative_accuracy", 1),
    TASK_LOSS: (TASK_LOSS, "relative_accuracy", 1),
    "closeness": (TASK_LOSS, "distance", -1),
}
_MEASURES = ("accuracy", "agreement", "cross_entropy", "residual", "distance", "auroc")


def stitches(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a `Stitch` for each map of one layer, over the pairs that have it."""
    summary = {}
    for name in dict.fromkeys(name for scores in found for name in scores):
        rows = [(p, x[name]) for p, x in zip(pairs, found, strict=True) if name in x]
        having, scores = [pair for pair, _ in rows], [x for _, x in rows]
        hits = np.sum([x["hits"] for x in scores], axis=0)
        relative = {"relative_accuracy": [x["relative_accuracy"] for x in scores]}
        summary[name] = {
            **{key: scores[0][key] for key in ("method", "kind", "setting")},
            "density": np.mean([x["density"] for x in scores]),
            "hits": hits / hits.sum(),
            **interval_of(having, relative),
            **{m: over_networks(having, [x[m] for x in scores]) for m in _MEASURES},
        }
    return summary


def indices(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return a `PairInterval` for each index of one layer."""
    return interval_of(pairs, {name: [x[name] for x in found] for name in found[0]})


def correlations(
    pairs: Sequence[Pair], maps: Layers, indices: Layers
) -> dict[str, Any]:
    """Return rank correlations of indices with performance: over layers, over pairs."""
    layers, between = dict[str, Any](), dict[str, Any]()
    for predicted, (name, measure, sign) in PREDICTED.items():
        # None, where there is no number, becomes NaN.
        found = [[x[name][measure] for x in of] for of in maps.values()]
        performance = sign * np.array(found, float)
        layers[predicted], between[predicted] = {}, {}
        for index in next(iter(indices.values()))[0]:
            found = [[x[index] for x in of] for of in indices.values()]
            # Pairs × the two × layers.
            both = np.array([found, performance], float).transpose(2, 0, 1)
            of_pairs = {index: [rank_correlation(*pair) for pair in both]}
            layers[predicted] |= interval_of(pairs, of_pairs)
            between[predicted][index] = over_networks(
                pairs, both, lambda some: mean_rank_correlation(some.transpose(2, 1, 0))
            )
    return {"correlations": layers, "between_pairs": between}


def cross(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]], same: bool = True
) -> dict[str, Any] | None:
    """Return a `Cross`, or None if no pair was asked for.

    Layers are identified if they are the `same` in both networks.
    """
    if not found:
        return None
    matrices = {name: [np.array(x[name], float) for x in found] for name in found[0]}
    # A row for each layer of network b: which layer of a scores highest with it?
    identified = {
        name: [float(report.identification(x.T).accuracy) for x in of_pairs]
        for name, of_pairs in matrices.items()
        if same
    }
    maps = ("least squares", "task loss")

    def related(performance: str) -> dict[str, list[float]]:
        relative = matrices[performance]
        return {
            index: list(map(rank_correlation, similarity, relative))
            for index, similarity in matrices.items()
            if index not in maps
        }

    return {
        "pairs": list(pairs),
        "matrices": {name: np.mean(x, axis=0) for name, x in matrices.items()},
        "identification": interval_of(pairs, identified),
        "correlations": {name: interval_of(pairs, related(name)) for name in maps},
    }


def audit(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return an `Audit`, or None if no pair was asked for."""
    return {"pairs": list(pairs), "layers": _intervals(pairs, found)} if found else None


def _intervals(pairs: Sequence[Pair], trees: Sequence[Any]) -> Any:
    if isinstance(trees[0], dict):
        return {key: _intervals(pairs, [x[key] for x in trees]) for key in trees[0]}
    return over_networks(pairs, trees)


def claims(
    pairs: Sequence[Pair], layers: Layers, summary: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the claims."""
    return [judged(*row) for row in _rows(pairs, layers, summary)]


def _rows(
    pairs: Sequence[Pair], layers: Layers, summary: Mapping[str, Any]
) -> Iterator[tuple[str, str, Mapping[str, Any], float, str]]:
    """Claim, measure, number, bound and side of each."""

    def compared(
        one: str, other: str, measure: str, how: Callable[[Any, Any], Any]
    ) -> dict[str, Any]:
        """Two maps compared in each pair that has them; means over layers."""
        having, values = [], []
        for place, pair in enumerate(pairs):
            maps = [of[place] for of in layers.values()]
            if all(one in of_layer for of_layer in maps):
                # None, where there is no number, becomes NaN.
                both = [[m[name][measure] for m in maps] for name in (one, other)]
                with np.errstate(divide="ignore", invalid="ignore"):
                    values.append(np.mean(how(*np.array(both, float))))
                having.append(pair)
        return over_networks(having, values)

    for name, how in ((TASK_LOSS, "task loss"), (LEAST_SQUARES, "least squares")):
        relative = {
            layer: maps[name]["relative_accuracy"]
            for layer, maps in summary["stitches"].items()
        }

        def mean(layer: str, relative: Mapping[str, Any] = relative) -> float:
            # Without a number, where network b classifies nothing correctly, the worst.
            found = relative[layer]["mean"]
            return -math.inf if found is None else found

        worst = min(relative, key=mean)
        claim = f"networks match by one affine layer: {how}"
        measure = f"relative accuracy at the worst layer, {worst}"
        yield claim, measure, relative[worst], MATCHED, "at least"

    number = compared(TASK_LOSS, LEAST_SQUARES, "accuracy", lambda x, y: x - y)
    measure = "accuracy of task loss minus that of least squares, mean over layers"
    yield "task loss finds better maps", measure, number, 0.0, "at least"

    first = next(iter(layers.values()))[0]
    for full, kind, how in (
        (LEAST_SQUARES, "reduced rank", "least squares"),
        (TASK_LOSS, "low rank", "task loss"),
    ):
        asked = (kind, LOW_RANK)
        for low in (n for n, m in first.items() if (m["kind"], m["setting"]) == asked):
            number = compared(low, full, "accuracy", lambda x, y: x / y)
            measure = f"accuracy at {LOW_RANK:.0%} of the rank over that at full rank"
            yield f"a low rank is enough: {how}", measure, number, ENOUGH, "at least"

    for index in ("CKA", "CCA"):
        number = summary["correlations"][TASK_LOSS][index]
        measure = "rank correlation with relative accuracy by task loss, over layers"
        yield f"{index} disagrees with performance", measure, number, AGREES, "at most"
    crossed = summary["cross"]
    if crossed:
        number = crossed["correlations"]["least squares"]["CKA"]
        measure = "rank correlation with relative accuracy, over all pairs of layers"
        yield "CKA disagrees, layer to layer", measure, number, AGREES, "at most"

    number = compared(
        TASK_LOSS, LEAST_SQUARES, "distance", lambda x, y: np.log10(x / y)
    )
    measure = "orders of magnitude farther from network 2's own than least squares"
    yield "task loss leaves what network 2 knows", measure, number, 0.0, "at least"

    if crossed:
        number = crossed["identification"]["r_squared"]
        measure = "share of layers that least squares explains best from the same layer"
        yield "direct matching finds the layer", measure, number, FOUND, "at least"
        number = crossed["identification"]["task loss"]
        measure = "share of layers that task loss matches best from the same layer"
        yield "task loss does not find the layer", measure, number, FOUND, "at most"
