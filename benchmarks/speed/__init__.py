"""Ratios of times against named baselines, measured side by side in one run."""

from benchmarks.speed._combinations import combinations_table, measure_combinations
from benchmarks.speed._matching import matching_table, measure_matching
from benchmarks.speed._moments import measure_moments, moments_table
from benchmarks.speed._optimizer_step import SpeedConfig, measure_steps, step_table
from benchmarks.speed._run import (
    CombinabilitySpeedConfig,
    StitchingSpeedConfig,
    print_combinability,
    print_steps,
    print_stitching,
    run_combinability,
    run_steps,
    run_stitching,
)
from benchmarks.speed._task_loss import measure_task_loss, task_loss_table

__all__ = [
    "CombinabilitySpeedConfig",
    "SpeedConfig",
    "StitchingSpeedConfig",
    "combinations_table",
    "matching_table",
    "measure_combinations",
    "measure_matching",
    "measure_moments",
    "measure_steps",
    "measure_task_loss",
    "moments_table",
    "print_combinability",
    "print_steps",
    "print_stitching",
    "run_combinability",
    "run_steps",
    "run_stitching",
    "step_table",
    "task_loss_table",
]
