"""Ratios of times against named baselines, measured side by side in one run."""

from benchmarks.speed._combinations import combinations_table, measure_combinations
from benchmarks.speed._matching import matching_table, measure_matching
from benchmarks.speed._optimizer_step import SpeedConfig, measure_steps, step_table
from benchmarks.speed._run import (
    CombinabilitySpeedConfig,
    print_combinability,
    print_steps,
    run_combinability,
    run_steps,
)

__all__ = [
    "CombinabilitySpeedConfig",
    "SpeedConfig",
    "combinations_table",
    "matching_table",
    "measure_combinations",
    "measure_matching",
    "measure_steps",
    "print_combinability",
    "print_steps",
    "run_combinability",
    "run_steps",
    "step_table",
]
