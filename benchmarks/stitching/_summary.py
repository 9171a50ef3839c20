"""Means over pairs of networks, with intervals, of what was measured on each pair."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.intervals import Pair, over_networks
from benchmarks.stitching._maps import LEAST_SQUARES, TASK_LOSS
from benchmarks.stitching._studies import CROSS_SCORES
from stitching import report

# By layer, the value of each pair.
Layers = Mapping[str, Sequence[Mapping[str, Any]]]
MEASURES = (
    "relative_accuracy",
    "accuracy",
    "agreement",
    "cross_entropy",
    "residual",
    "distance",
    "auroc",
)


def stitches(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a `Stitch` for each map of one layer, over the pairs that have it.

    Args:
      pairs: The pairs.
      found: The scores of each pair, by map.
    """
    summary = {}
    for name in dict.fromkeys(name for scores in found for name in scores):
        rows = [(p, x[name]) for p, x in zip(pairs, found, strict=True) if name in x]
        having, scores = [pair for pair, _ in rows], [x for _, x in rows]
        hits = np.sum([x["hits"] for x in scores], axis=0)
        entry = {key: scores[0][key] for key in ("method", "kind", "setting")}
        entry["density"] = np.mean([x["density"] for x in scores])
        entry["hits"] = hits / hits.sum()
        for measure in MEASURES:
            entry[measure] = over_networks(having, [x[measure] for x in scores])
        entry["relative_accuracy"]["pairs"] = [x["relative_accuracy"] for x in scores]
        summary[name] = entry
    return summary


def with_pairs(pairs: Sequence[Pair], values: Sequence[float]) -> dict[str, Any]:
    """Return a `PairInterval`."""
    return {"pairs": list(values), **over_networks(pairs, values)}


def indices(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return a `PairInterval` for each index of one layer."""
    return {name: with_pairs(pairs, [x[name] for x in found]) for name in found[0]}


def correlations(
    pairs: Sequence[Pair], maps: Layers, indices: Layers
) -> dict[str, Any]:
    """Return rank correlations over layers of each index with performance.

    Args:
      pairs: The pairs.
      maps: The scores of each pair, by layer and map.
      indices: The indices of each pair, by layer.

    Returns:
      A `PairInterval` by map and index.
    """

    def of_pair(place: int, name: str, index: str) -> float:
        performance = [x[place][name]["relative_accuracy"] for x in maps.values()]
        similarity = [x[place][index] for x in indices.values()]
        return rank_correlation(similarity, performance)

    def of_pairs(name: str, index: str) -> dict[str, Any]:
        values = [of_pair(place, name, index) for place in range(len(pairs))]
        return with_pairs(pairs, values)

    names = next(iter(indices.values()))[0]
    return {
        name: {index: of_pairs(name, index) for index in names}
        for name in (LEAST_SQUARES, TASK_LOSS)
    }


def cross(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return a `Cross`, or None if no pair was asked for."""
    if not found:
        return None
    matrices = {
        name: [np.array(x[name], float) for x in found] for name in CROSS_SCORES
    }

    def identified(name: str) -> list[float]:
        # A row for each layer of network b: which layer of a scores highest with it?
        return [float(report.identification(x.T).accuracy) for x in matrices[name]]

    def related(index: str) -> list[float]:
        both = zip(matrices[index], matrices["relative_accuracy"], strict=True)
        return [rank_correlation(x, y) for x, y in both]

    return {
        "pairs": list(pairs),
        "matrices": {name: np.mean(x, axis=0) for name, x in matrices.items()},
        "identification": {x: with_pairs(pairs, identified(x)) for x in CROSS_SCORES},
        "correlations": {
            index: with_pairs(pairs, related(index))
            for index in ("CKA", "CCA", "r_squared")
        },
    }


def audit(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return an `Audit`, or None if no pair was asked for."""
    return {"pairs": list(pairs), "layers": _mean(found)} if found else None


def _mean(trees: Sequence[Any]) -> Any:
    if isinstance(trees[0], dict):
        return {key: _mean([tree[key] for tree in trees]) for key in trees[0]}
    return float(np.mean(trees))


def rank_correlation(x: Any, y: Any) -> float:
    """Return Spearman's correlation where both are finite; NaN if one is constant."""
    x, y = (np.asarray(values, float).ravel() for values in (x, y))
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    found: Any = stats.spearmanr(x, y)
    return float(found.statistic)
