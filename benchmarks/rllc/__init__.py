"""RLLC compared with other optimizers, and with itself under a frozen law.

`run(config)` compares on what the configuration names; `dataset`, `model` and `methods`
take your own objects.
"""

from benchmarks.configs.rllc import Config
from benchmarks.rllc._experiment import run
from benchmarks.rllc._result import Result
from benchmarks.rllc._variants import METHODS

__all__ = ["METHODS", "Config", "Result", "run"]
