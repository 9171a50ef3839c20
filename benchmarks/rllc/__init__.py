"""RLLC compared with other optimizers, and with itself under a frozen law."""

from benchmarks.rllc._config import METHODS, Config
from benchmarks.rllc._experiment import run
from benchmarks.rllc._result import Result

__all__ = ["METHODS", "Config", "Result", "run"]
