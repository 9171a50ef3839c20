"""Are combinations different from their parents, and from one another?"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import combinability
from benchmarks.combinability._scoring import Judge
from benchmarks.intervals import over_networks

# Combinations of each pair that are compared with their parents and in twos.
_COMBINATIONS = 8


def run_differences(
    judge: Judge,
    pairs: list[tuple[int, int]],
    ends: Callable[[int, int], tuple[Any, Any, Any]],
    key: jax.Array,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Differences of combinations, beside those of two seeds.

    Args:
      judge: Holds the test rows that outputs are compared on.
      pairs: The pairs.
      ends: Gives for a pair the first network, the second as it is, and aligned.
      key: Of the coefficients.
      progress: Called as `progress(done, total)`.

    Returns:
      "seeds" (the two networks of a pair, aligned), "parents" (a random combination and
      either of its parents) and "combinations" (two random combinations): each with
      means and intervals of the measures of `combinability.difference`; "relative", the
      disagreement of the latter two as a fraction of that of the seeds.
    """
    distribution = combinability.uniform()

    @jax.jit
    def measure(key, a, b):
        def combination(index):
            drawn = distribution.sample(index, a, key=key)
            return combinability.combine(a, b, drawn)

        def difference(x, y):
            found = combinability.difference(
                judge.apply, x, y, judge.test.inputs, judge.test.targets
            )
            overlap = found.error_overlap
            return {
                "disagreement": found.disagreement,
                "jensen_shannon": found.jensen_shannon,
                "cka": found.cka,
                "error_overlap": overlap.overlap if overlap else np.nan,
                "cosine": found.cosine,
                "l2": found.l2,
            }

        def of_one(index):
            one, other = combination(2 * index), combination(2 * index + 1)
            return {
                "to_a": difference(one, a),
                "to_b": difference(one, b),
                "combinations": difference(one, other),
            }

        found = jax.lax.map(of_one, jax.numpy.arange(_COMBINATIONS))
        found = jax.tree.map(lambda values: values.mean(0), found)
        found["seeds"] = difference(a, b)
        return found

    rows = []
    for done, pair in enumerate(pairs):
        a, _, aligned = ends(*pair)
        found = jax.device_get(measure(jax.random.fold_in(key, done), a, aligned))
        to_a, to_b = found.pop("to_a"), found.pop("to_b")
        found["parents"] = {m: (to_a[m] + to_b[m]) / 2 for m in to_a}
        rows.append(found)
        if progress:
            progress(done + 1, len(pairs))
    result: dict[str, Any] = {
        kind: {
            measure_name: over_networks(
                pairs, [float(row[kind][measure_name]) for row in rows]
            )
            for measure_name in rows[0]["seeds"]
        }
        for kind in ("seeds", "parents", "combinations")
    }
    result["relative"] = {
        kind: over_networks(
            pairs,
            [
                float(
                    row[kind]["disagreement"] / max(row["seeds"]["disagreement"], 1e-9)
                )
                for row in rows
            ],
        )
        for kind in ("parents", "combinations")
    }
    return result
