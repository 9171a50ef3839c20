"""What is left of combinations when the matching is spoilt."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import combinability
from benchmarks.combinability._scoring import Judge
from benchmarks.intervals import interval_of

# Random combinations of each perturbed matching, and perturbations of each fraction.
_SAMPLES, _TRIALS = 12, 2


def run_robustness(
    judge: Judge,
    symmetry: combinability.Symmetry,
    pairs: list[tuple[int, int]],
    ends: Callable[[int, int], tuple[Any, Any, Any]],
    permutation: Callable[[int, int], Any],
    of_parents: list[dict[str, float]],
    fractions: tuple[float, ...],
    points: int,
    key: jax.Array,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Perturbs the matching of pairs by ever larger fractions of the units.

    Args:
      judge: What losses are measured with.
      symmetry: Of the networks.
      pairs: The pairs.
      ends: Gives for a pair the first network, the second as it is, and aligned.
      permutation: Gives for a pair the permutation of the second.
      of_parents: The scores of each network.
      fractions: The fractions.
      points: Of each segment.
      key: Of perturbations and combinations.
      progress: Called as `progress(done, total)`.

    Returns:
      "moved" and "lost" (means over pairs and trials, for each fraction), and for each
      fraction and metric the "barrier" and the "excess" of uniform combinations beyond
      the mean of the parents, with intervals over networks.
    """
    found = []
    for number, (i, j) in enumerate(pairs):
        a, b, _ = ends(i, j)
        found.append(
            combinability.robustness(
                judge.scores,
                symmetry,
                a,
                b,
                permutation(i, j),
                key=jax.random.fold_in(key, number),
                fractions=fractions,
                trials=_TRIALS,
                samples=_SAMPLES,
                points=points,
            )
        )
        if progress:
            progress(number + 1, len(pairs))
    rows = []
    for place, _ in enumerate(fractions):
        barrier, excess = {}, {}
        for metric in of_parents[0]:
            barrier[metric] = [np.mean(one.barrier[metric][place]) for one in found]
            excess[metric] = [
                np.mean(one.losses[metric][place])
                - (of_parents[i][metric] + of_parents[j][metric]) / 2
                for one, (i, j) in zip(found, pairs, strict=True)
            ]
        rows.append(
            {
                "barrier": interval_of(pairs, barrier),
                "excess": interval_of(pairs, excess),
            }
        )
    return {
        "fractions": list(fractions),
        "moved": np.mean([one.moved.mean(1) for one in found], 0).tolist(),
        "lost": np.mean([one.lost.mean(1) for one in found], 0).tolist(),
        "rows": rows,
    }
