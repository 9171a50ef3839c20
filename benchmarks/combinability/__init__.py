"""Experiments on combinability: networks aligned, and combined in the hypercube."""

from benchmarks.combinability._config import Config
from benchmarks.combinability._experiment import STAGES, run, run_experiment
from benchmarks.combinability._taste import Pair, taste, train_pair

__all__ = ["STAGES", "Config", "Pair", "run", "run_experiment", "taste", "train_pair"]
