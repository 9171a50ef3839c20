"""The result of the tour, as `result.json` holds it."""

from benchmarks.combinability._result import Preview as Combined
from benchmarks.rllc import _result as comparison
from benchmarks.stitching._result import Preview as Stitched


class Result(comparison.Result):
    """A comparison of optimizers, and two networks combined and stitched."""

    combinability: Combined
    stitching: Stitched
