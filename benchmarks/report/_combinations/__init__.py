"""The figures of experiments on combinability."""

from benchmarks.report._combinations._cube import hypercube, taste
from benchmarks.report._combinations._distinct import differences
from benchmarks.report._combinations._plane import landscape
from benchmarks.report._combinations._spoilt import robustness
from benchmarks.report._combinations._through import transitivity
from benchmarks.report._combinations._ways import barriers, segments

__all__ = [
    "barriers",
    "differences",
    "hypercube",
    "landscape",
    "robustness",
    "segments",
    "taste",
    "transitivity",
]
