"""RLLC compared with other optimizers, and with itself under a frozen law.

`run(config)` compares on what the configuration names; `dataset`, `model` and `methods`
take your own objects.
"""

from typing import TYPE_CHECKING

from benchmarks._lazy import lazy
from benchmarks.rllc._config import Config

if TYPE_CHECKING:
    from benchmarks.rllc._experiment import run
    from benchmarks.rllc._result import Result
    from benchmarks.rllc._variants import METHODS

__all__ = ["METHODS", "Config", "Result", "run"]

__getattr__ = lazy(__name__, METHODS="_variants", Result="_result", run="_experiment")
