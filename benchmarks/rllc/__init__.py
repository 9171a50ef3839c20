"""RLLC compared with other optimizers, and with itself under a frozen law.

`run(config)` compares on what the configuration names; `dataset`, `model` and `methods`
take your own objects.
"""

import importlib
from typing import TYPE_CHECKING, Any

from benchmarks.rllc._config import Config

if TYPE_CHECKING:
    from benchmarks.rllc._experiment import run
    from benchmarks.rllc._result import Result
    from benchmarks.rllc._variants import METHODS

__all__ = ["METHODS", "Config", "Result", "run"]

_WHERE = {"METHODS": "_variants", "Result": "_result", "run": "_experiment"}


def __getattr__(name: str) -> Any:
    """Import what takes long only where it is used."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
