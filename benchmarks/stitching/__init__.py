"""Experiments on stitching: pairs of networks joined at every layer."""

from benchmarks.configs.stitching import Config
from benchmarks.stitching._experiment import run
from benchmarks.stitching._preview import preview
from benchmarks.stitching._result import Result

__all__ = ["Config", "Result", "preview", "run"]
