"""What measurements of speed show side by side."""

from typing import Any

from benchmarks.report._comparison import Comparison, Kind, Numbers
from benchmarks.report._numbers import Interval


def _numbers(result: Any) -> Numbers:
    for one in result.timings:
        for other, ratio in one.ratios.items():
            if other != one.program:
                kind = Kind(f"Time relative to {other}", zero=1.0)
                number = Interval(ratio.median, ratio.low, ratio.high)
                yield kind, f"{one.program}, {one.case}", number


COMPARISON = Comparison("Medians over rounds, with quartiles.", _numbers)
