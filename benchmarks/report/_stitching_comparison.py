"""What runs of stitching show side by side."""

from collections.abc import Iterator
from functools import partial

import stitching.plot
from benchmarks.report import _stitching
from benchmarks.report._comparison import (
    OVER_PAIRS,
    Comparison,
    Looks,
    Runs,
    numbers_of_claims,
)
from benchmarks.report._figure import Panel, panel


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


COMPARISON = Comparison(OVER_PAIRS, numbers_of_claims, _curves)
