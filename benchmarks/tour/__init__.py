"""The tour: one story on embedded data, from training to what lies between networks."""

from benchmarks.tour._tour import tour

__all__ = ["tour"]
