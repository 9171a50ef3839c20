"""What runs of stitching show side by side."""

from collections.abc import Iterator
from functools import partial

import numpy as np

import stitching.plot
from benchmarks.intervals import mean_rank_correlation, over_networks
from benchmarks.report import _stitching
from benchmarks.report._comparison import (
    OVER_PAIRS,
    Comparison,
    Looks,
    Runs,
    numbers_of_claims,
)
from benchmarks.report._figure import Figure, Panel, figure, panel
from benchmarks.report._numbers import Interval


def _curves(runs: Runs, looks: Looks) -> Iterator[Panel]:
    """Relative accuracy over the layers, which runs may have different ones of."""
    ticks = range(max(len(result.stitches) for result in runs.values()))
    settings = {"xticks": ticks, "xticklabels": ticks}
    for kind in (_stitching.TASK_LOSS, _stitching.LEAST_SQUARES):
        draws, method = [], kind.partition(":")[0]
        for name, result in runs.items():
            numbers = _stitching.across(result.stitches, kind).values()
            means = [100 * number.mean for number in numbers]
            draws.append(partial(stitching.plot.over_layers, means, **looks[name]))
        yield panel("compared_layers", *draws, settings=settings, method=method)


def _predictions(runs: Runs) -> Iterator[Figure]:
    """Which indices tell how well runs stitch; they have the same layers and pairs."""
    results = list(runs.values())
    same = {(*run.stitches, *map(tuple, run.pairs)) for run in results}
    if len(results) < 3 or len(same) > 1:
        return
    indices = [run.indices.values() for run in results]  # by layer
    first = next(iter(indices[0]))
    names = [n for n in first if all(n in of for run in indices for of in run)]

    def correlated(predicted: str, index: str) -> Interval:
        """Over the runs, for each pair; means over the layers."""
        similar = [[of[index].pairs for of in run] for run in indices]
        performances = [
            [maps[predicted].relative_accuracy.pairs for maps in run.stitches.values()]
            for run in results
        ]
        # Pairs × layers × the two × runs.
        every = np.array([similar, performances]).transpose(3, 2, 0, 1)
        each = [mean_rank_correlation(pair) for pair in every]
        found = over_networks(results[0].pairs, each)
        return Interval(**{k: np.nan if x is None else x for k, x in found.items()})

    found = {
        predicted: {index: correlated(predicted, index) for index in names}
        for predicted in (_stitching.LEAST_SQUARES, _stitching.TASK_LOSS)
    }
    yield figure("predictions", [_stitching.correlations("runs", found)])


COMPARISON = Comparison(OVER_PAIRS, numbers_of_claims, _curves, _predictions)
