"""Experiments on stitching: pairs of networks joined at every layer, in every way."""

from benchmarks.stitching._config import Config
from benchmarks.stitching._experiment import is_pair, run, run_experiment
from benchmarks.stitching._preview import preview

__all__ = ["Config", "is_pair", "preview", "run", "run_experiment"]
