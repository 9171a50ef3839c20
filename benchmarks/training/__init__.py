"""Compiled training of many runs of one network: seeds and hyper-parameters."""

from benchmarks.training._checkpoint import CheckpointError
from benchmarks.training._history import History, Plan
from benchmarks.training._strategy import STRATEGIES, Strategy, fastest_strategy
from benchmarks.training._task import Data, Task, make_task
from benchmarks.training._train import train

__all__ = [
    "STRATEGIES",
    "CheckpointError",
    "Data",
    "History",
    "Plan",
    "Strategy",
    "Task",
    "fastest_strategy",
    "make_task",
    "train",
]
