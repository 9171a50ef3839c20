"""Experiments on combinability: networks matched, and combined in the hypercube."""

from benchmarks.combinability._experiment import run
from benchmarks.combinability._preview import preview, train_pair
from benchmarks.combinability._result import Result
from benchmarks.configs.combinability import Config

__all__ = ["Config", "Result", "preview", "run", "train_pair"]
