"""Datasets: published ones by name, or your own from a NumPy archive."""

from benchmarks.data._dataset import DataError, Dataset, Split
from benchmarks.data._load import NAMES, check, load

__all__ = ["NAMES", "DataError", "Dataset", "Split", "check", "load"]
