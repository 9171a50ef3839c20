"""Matching all pairs of networks, directly and through a third: transitivity."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import combinability
from benchmarks.combinability._scoring import Judge
from benchmarks.intervals import interval_of

Progress = Callable[[int, int], None]


def align(
    judge: Judge,
    symmetry: combinability.Symmetry,
    networks: list[Any],
    key: jax.Array,
    points: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Matches every pair by weights, and measures barriers without, with and through.

    Args:
      judge: What losses are measured with.
      symmetry: Of the networks.
      networks: Their variables.
      key: Of the matchings.
      points: Of each segment.
      progress: Called as `progress(done, total)`.

    Returns:
      "matching", "transitivity" of the schema in `benchmarks.runs`, and "permutations",
      group -> (pairs, *within, size).
    """
    record: list[combinability.Matching] = []

    def match(symmetry, a, b, *, key):
        record.append(combinability.match(symmetry, a, b, key=key))
        return record[-1]

    found = combinability.transitivity(
        judge.scores,
        symmetry,
        networks,
        key=key,
        match=match,
        points=points,
        progress=progress,
    )
    pairs = [(int(i), int(j)) for i, j in found.pairs]
    permutations = {name: np.asarray(p) for name, p in found.permutations.items()}
    tried = [dict(m.starts or {}) for m in record]
    starts = {name: [float(t[name]) for t in tried] for name in tried[0]}
    moved = [
        float(
            combinability.permutations.distance(
                combinability.permutations.identity(symmetry), m.permutation
            )
        )
        for m in record
    ]
    best = [max(t, key=lambda name: t[name]) for t in tried]
    return {
        "permutations": permutations,
        "matching": {
            "pairs": pairs,
            "objective": [float(m.objective) for m in record],
            "starts": starts,
            "best_start": best,
            "moved": moved,
        },
        "transitivity": _transitivity(found, pairs),
    }


def _transitivity(
    found: combinability.Transitivity, pairs: list[tuple[int, int]]
) -> dict[str, Any]:
    """Barriers of the pairs that do not hold the reference, and cycle defects."""
    rows, columns = np.transpose(pairs)
    ways: dict[str, Any] = {}
    matrices: dict[str, Any] = {}
    for name, barriers in (("unmatched", found.unmatched), ("direct", found.direct)):
        ways[name] = interval_of(
            pairs,
            {metric: heights[rows, columns] for metric, heights in barriers.items()},
        )
        matrices[name] = {m: heights.tolist() for m, heights in barriers.items()}
    ways["through"] = interval_of(
        pairs,
        {
            metric: [_through(heights, found.references, *pair) for pair in pairs]
            for metric, heights in found.through.items()
        },
    )
    matrices["through_first"] = {m: h[0].tolist() for m, h in found.through.items()}
    cycles = {
        name: {"mean": float(np.mean(defects)), "chance": found.chance[name]}
        for name, defects in found.cycles.items()
    }
    return {"barriers": ways, "matrices": matrices, "cycles": cycles}


def _through(heights: np.ndarray, references: np.ndarray, i: int, j: int) -> float:
    """The mean over all third networks."""
    thirds = [k for k, r in enumerate(references) if r not in (i, j)]
    return float(np.mean(heights[thirds, i, j]))


def permutation_of(
    aligned: dict[str, Any], symmetry: combinability.Symmetry, i: int, j: int
) -> Any:
    """The permutation of network j that moves it towards network i."""
    pairs = [tuple(pair) for pair in aligned["matching"]["pairs"]]
    number = pairs.index((min(i, j), max(i, j)))
    one = {
        name: jax.numpy.asarray(p[number])
        for name, p in aligned["permutations"].items()
    }
    return one if i < j else combinability.permutations.invert(symmetry, one)
