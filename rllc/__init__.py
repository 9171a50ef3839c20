"""Optimizers with memory units whose combination is learned while training."""

from rllc._alias import momentum, nesterov, rllc, rllc_adam, scale_by_rllc_adam, sgd
from rllc._diagnostics import Diagnostics, diagnostics, freeze, response
from rllc._law import FixedLaw, LearningLaw, large_batch_law
from rllc._memory import (
    LinearMemory,
    Memory,
    complex_block,
    decays,
    direct_sum,
    gradient_history,
    real_block,
    units,
)
from rllc._solver import PseudoInverse, Ridge
from rllc._transform import ScaleByRllcAdamState, ScaleByRllcState, scale_by_rllc

__all__ = [
    "Diagnostics",
    "FixedLaw",
    "LearningLaw",
    "LinearMemory",
    "Memory",
    "PseudoInverse",
    "Ridge",
    "ScaleByRllcAdamState",
    "ScaleByRllcState",
    "complex_block",
    "decays",
    "diagnostics",
    "direct_sum",
    "freeze",
    "gradient_history",
    "large_batch_law",
    "momentum",
    "nesterov",
    "real_block",
    "response",
    "rllc",
    "rllc_adam",
    "scale_by_rllc",
    "scale_by_rllc_adam",
    "sgd",
    "units",
]
