"""Experiments on combinability: networks matched, and combined in the hypercube."""

from benchmarks.combinability._config import Config
from benchmarks.combinability._experiment import run
from benchmarks.combinability._preview import TrainedPair, preview, train_pair

__all__ = ["Config", "TrainedPair", "preview", "run", "train_pair"]
