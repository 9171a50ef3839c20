"""Experiments on stitching: pairs of networks joined at every layer."""

from typing import TYPE_CHECKING

from benchmarks._lazy import lazy
from benchmarks.stitching._config import Config

if TYPE_CHECKING:
    from benchmarks.stitching._experiment import run
    from benchmarks.stitching._preview import preview
    from benchmarks.stitching._result import Result

__all__ = ["Config", "Result", "preview", "run"]

__getattr__ = lazy(__name__, run="_experiment", preview="_preview", Result="_result")
