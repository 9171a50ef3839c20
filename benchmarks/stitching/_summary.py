"""What pairs and layers have in common: means with intervals over networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.intervals import over_networks
from benchmarks.stitching._cross import SCORES, rank_correlation
from benchmarks.stitching._maps import TASK

Pair = tuple[int, int]
# By layer, what each pair has.
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
# The maps that every pair has, by which performance is judged.
LEAST_SQUARES, TASK_LOSS = "least squares", f"{TASK}: affine"


def stitches(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The maps of one layer over the pairs that have them.

    Args:
      pairs: The pairs.
      found: The scores of each pair, by map.

    Returns:
      "stitches" of one layer, of the schema in `benchmarks.runs`.
    """
    names = list(dict.fromkeys(name for scores in found for name in scores))
    summary = {}
    for name in names:
        having = [place for place, scores in enumerate(found) if name in scores]
        scores = [found[place][name] for place in having]
        entry = {key: scores[0][key] for key in ("way", "kind", "at")}
        entry = {"method": entry["way"], "kind": entry["kind"], "setting": entry["at"]}
        entry["density"] = float(np.mean([each["density"] for each in scores]))
        hits = np.sum([each["hits"] for each in scores], axis=0)
        entry["hits"] = (hits / hits.sum()).tolist()
        of = [pairs[place] for place in having]
        for measure in MEASURES:
            values = [each[measure] for each in scores]
            entry[measure] = over_networks(of, values)
        kept = [each["relative_accuracy"] for each in scores]
        entry["relative_accuracy"] = {"pairs": kept, **entry["relative_accuracy"]}
        summary[name] = entry
    return summary


def of_indices(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """The indices of one layer, the value of each pair beside the mean."""
    return {
        name: with_pairs(pairs, [values[name] for values in found]) for name in found[0]
    }


def correlations(
    pairs: Sequence[Pair], maps: Layers, indices: Layers
) -> dict[str, Any]:
    """Rank correlations over layers of each index with performance, by pair.

    Args:
      pairs: The pairs.
      maps: Of each layer, the scores of each pair, by map.
      indices: Of each layer, the indices of each pair.

    Returns:
      MAP: INDEX: the correlation within each pair, and its mean with an interval.
    """

    def of_pair(place: int, map_: str, index: str) -> float | None:
        performance = [
            found[place][map_]["relative_accuracy"] for found in maps.values()
        ]
        return rank_correlation(
            [found[place][index] for found in indices.values()], performance
        )

    names = next(iter(indices.values()))[0]
    places = range(len(pairs))
    return {
        map_: {
            index: with_pairs(pairs, [of_pair(place, map_, index) for place in places])
            for index in names
        }
        for map_ in (LEAST_SQUARES, TASK_LOSS)
    }


def cross(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Mean matrices of layer to layer, and what they say."""
    if not found:
        return None
    matrices = {
        name: np.mean([np.array(one[name], float) for one in found], axis=0)
        for name in SCORES
    }
    identified = {
        name: with_pairs(
            pairs, [one["identification"][name]["accuracy"] for one in found]
        )
        for name in SCORES
    }
    related = {
        index: with_pairs(
            pairs,
            [rank_correlation(one[index], one["relative_accuracy"]) for one in found],
        )
        for index in ("CKA", "CCA", "r_squared")
    }
    return {
        "pairs": [list(pair) for pair in pairs],
        "matrices": {name: matrix.tolist() for name, matrix in matrices.items()},
        "identification": identified,
        "correlations": related,
    }


def audit_summary(
    pairs: Sequence[Pair], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The audits of every layer, method by method: means over pairs."""
    if not found:
        return None
    return {
        "pairs": [list(pair) for pair in pairs],
        "layers": {
            layer: {
                method: _mean_of([one[layer][method] for one in found])
                for method in methods
            }
            for layer, methods in found[0].items()
        },
    }


def _mean_of(trees: Sequence[Any]) -> Any:
    if isinstance(trees[0], dict):
        return {key: _mean_of([tree[key] for tree in trees]) for key in trees[0]}
    return float(np.mean(trees))


def with_pairs(pairs: Sequence[Pair], values: Sequence[float | None]) -> dict[str, Any]:
    """`over_networks` with the values of the pairs beside it."""
    numbers = [np.nan if value is None else value for value in values]
    return {"pairs": list(values), **over_networks(pairs, numbers)}


def rounded(value: Any, digits: int = 5) -> Any:
    """A tree with its floats in so many digits: a result that is read by people.

    Example:
      >>> rounded({"mean": 0.123456789, "pairs": [1, None, 2.0]})
      {'mean': 0.12346, 'pairs': [1, None, 2.0]}
    """
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
