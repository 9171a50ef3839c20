"""Ratios of times against named baselines, measured in turns in one run."""

from benchmarks._lazy import lazy

_WHERE = {
    "_combinations": ("combinations_table", "measure_combinations"),
    "_matching": ("matching_table", "measure_matching"),
    "_moments": ("moments_table", "measure_moments"),
    "_optimizer_step": ("SpeedConfig", "measure_steps", "step_table"),
    "_config": ("CombinabilitySpeedConfig", "StitchingSpeedConfig"),
    "_run": (
        *("run_steps", "run_combinability", "run_stitching"),
        *("print_steps", "print_combinability", "print_stitching"),
    ),
    "_task_loss": ("measure_task_loss", "task_loss_table"),
}
__getattr__ = lazy(
    __name__, {name: file for file, names in _WHERE.items() for name in names}
)
