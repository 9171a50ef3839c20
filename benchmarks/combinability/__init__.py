"""Experiments on combinability: networks matched, and combined in the hypercube."""

from typing import TYPE_CHECKING

from benchmarks._lazy import lazy
from benchmarks.combinability._config import Config

if TYPE_CHECKING:
    from benchmarks.combinability._experiment import run
    from benchmarks.combinability._preview import TrainedPair, preview, train_pair
    from benchmarks.combinability._result import Result

__all__ = ["Config", "Result", "TrainedPair", "preview", "run", "train_pair"]

_WHERE = {"run": "_experiment", "Result": "_result"}
_WHERE |= dict.fromkeys(("TrainedPair", "preview", "train_pair"), "_preview")
__getattr__ = lazy(__name__, _WHERE)
