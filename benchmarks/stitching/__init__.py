"""Experiments on stitching: pairs of networks joined at every layer."""

from benchmarks.stitching._config import Config
from benchmarks.stitching._experiment import run
from benchmarks.stitching._preview import preview

__all__ = ["Config", "preview", "run"]
