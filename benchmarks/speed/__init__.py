"""Ratios of times against named baselines, measured side by side in one run."""

from benchmarks.speed._optimizer_step import SpeedConfig, measure_steps, step_table
from benchmarks.speed._run import print_steps, run_steps

__all__ = ["SpeedConfig", "measure_steps", "print_steps", "run_steps", "step_table"]
