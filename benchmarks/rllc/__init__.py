"""RLLC compared with other optimizers, and with itself under a frozen law."""

from benchmarks.rllc._comparison import STAGES, is_counted, run_comparison
from benchmarks.rllc._config import METHODS, Config

__all__ = ["METHODS", "STAGES", "Config", "is_counted", "run_comparison"]
