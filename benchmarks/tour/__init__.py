"""The tour: one story on embedded data, from training to what lies between networks."""

from benchmarks.tour._result import Result
from benchmarks.tour._tour import CONFIG, run

__all__ = ["CONFIG", "Result", "run"]
