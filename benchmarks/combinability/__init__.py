"""Experiments on combinability: networks matched, and combined in the hypercube."""

from typing import TYPE_CHECKING

from benchmarks._lazy import lazy
from benchmarks.combinability._config import Config

if TYPE_CHECKING:
    from benchmarks.combinability._experiment import run
    from benchmarks.combinability._preview import preview, train_pair
    from benchmarks.combinability._result import Result

__all__ = ["Config", "Result", "preview", "run", "train_pair"]

__getattr__ = lazy(
    __name__,
    run="_experiment",
    Result="_result",
    preview="_preview",
    train_pair="_preview",
)
