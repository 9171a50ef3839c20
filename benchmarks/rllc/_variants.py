"""RLLC as it is compared: learning its law, learning it freely, and frozen.

The frozen laws show what learning the law contributes: the same memory with the law
that training starts from, and with the law that a tuned run has learned. Both have
trials of their own for the learning rate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rllc
from benchmarks.baselines import (
    ADAM_RATE,
    BASELINES,
    MOMENTUM_RATE,
    Method,
    with_schedule,
)
from benchmarks.rllc._compositions import COMPOSITIONS


def initial_law(optimizer: optax.GradientTransformation) -> np.ndarray:
    """Return the law, shape (k,), that an optimizer starts from."""
    with jax.ensure_compile_time_eval():
        state = optimizer.init(jnp.zeros(1))
        return np.asarray(rllc.diagnostics(state).law[0])


def _free(rate: optax.Schedule) -> optax.GradientTransformation:
    return rllc.rllc(rate, law=rllc.LearningLaw(conserve_gain=False))


def _initial(make: Callable) -> Callable:
    return lambda rate: make(rate, law=rllc.FixedLaw(initial_law(make(1.0))))


def _learned(make: Callable) -> Callable:
    return lambda rate, law: make(rate, law=rllc.FixedLaw(law))


VARIANTS = {
    "rllc": with_schedule("rllc", rllc.rllc, MOMENTUM_RATE),
    "rllc_free": with_schedule("rllc_free", _free, MOMENTUM_RATE),
    "rllc_adam": with_schedule("rllc_adam", rllc.rllc_adam, ADAM_RATE),
}
FROZEN = {
    name: with_schedule(name, frozen(make), space)
    for kind, frozen in (("initial", _initial), ("learned", _learned))
    for name, make, space in (
        (f"rllc_frozen_{kind}", rllc.rllc, MOMENTUM_RATE),
        (f"rllc_adam_frozen_{kind}", rllc.rllc_adam, ADAM_RATE),
    )
}

METHODS: dict[str, Method] = {**BASELINES, **VARIANTS, **FROZEN, **COMPOSITIONS}
