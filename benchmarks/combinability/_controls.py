"""The segment between two networks under the controls that always go with it."""

from collections.abc import Callable
from typing import Any

import numpy as np

import combinability
from benchmarks.combinability._scoring import Judge
from benchmarks.intervals import interval_of

CONTROLS = (
    "not matched",
    "not matched, temperature",
    "matched",
    "matched, temperature",
    "matched, repaired",
)


def run_controls(
    judge: Judge,
    pairs: list[tuple[int, int]],
    ends: Callable[[int, int], tuple[Any, Any, Any]],
    points: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Barriers and mean losses along the segments of pairs.

    Args:
      judge: What losses are measured with.
      pairs: The pairs.
      ends: Gives for a pair the first network, the second as it is, and aligned.
      points: Of each segment.
      progress: Called as `progress(done, total)`.

    Returns:
      "barriers" and "curves" of the schema in `benchmarks.runs`, by control.
    """
    found: dict[str, list[combinability.Barrier]] = {name: [] for name in CONTROLS}
    for done, pair in enumerate(pairs):
        a, b, aligned = ends(*pair)
        repaired = judge.repaired(a, aligned)
        segments = (
            (judge.scores, b),
            (judge.tempered, b),
            (judge.scores, aligned),
            (judge.tempered, aligned),
            (repaired, aligned),
        )
        for name, (metric, end) in zip(CONTROLS, segments, strict=True):
            found[name].append(combinability.barrier(metric, a, end, points=points))
        if progress:
            progress(done + 1, len(pairs))
    return {
        "barriers": {
            name: interval_of(pairs, _columns([b.height for b in barriers]))
            for name, barriers in found.items()
        },
        "curves": {
            name: {
                metric: np.mean(losses, axis=0).tolist()
                for metric, losses in _columns([b.losses for b in barriers]).items()
            }
            for name, barriers in found.items()
        },
        "fractions": found["matched"][0].fractions.tolist(),
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {metric: [row[metric] for row in rows] for metric in rows[0]}
