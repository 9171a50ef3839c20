"""Datasets: found in the data directory or downloaded, checked and standardised."""

from ._dataset import DataError, Dataset, Split
from ._load import NAMES, load

__all__ = ["NAMES", "DataError", "Dataset", "Split", "load"]
