"""RLLC as it is compared: learning its law, learning it freely, and frozen.

The frozen laws show what learning the law contributes: the same memory with the law
that training starts from, and with the law that a tuned run has learned. Both have
trials of their own for the learning rate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rllc
from benchmarks.baselines import (
    ADAM_RATE,
    BASELINES,
    MOMENTUM_RATE,
    Horizon,
    Hyper,
    Method,
)
from benchmarks.rllc._compositions import COMPOSITIONS


def initial_law(optimizer: optax.GradientTransformation) -> np.ndarray:
    """Return the law, shape (k,), that an optimizer starts from."""
    with jax.ensure_compile_time_eval():
        state = optimizer.init(jnp.zeros(1))
        return np.asarray(rllc.diagnostics(state).law[0])


# A law from hyper-parameters and `rllc.rllc` or `rllc.rllc_adam`.
Law = Callable[[Hyper, Any], Any]


def _method(name: str, law: Law | None = None) -> Method:
    make, space = rllc.rllc, MOMENTUM_RATE
    if name.startswith("rllc_adam"):
        make, space = rllc.rllc_adam, ADAM_RATE

    def build(horizon: Horizon, hyper: Hyper) -> optax.GradientTransformation:
        rate = horizon.schedule(hyper["learning_rate"])
        return make(rate, law=None if law is None else law(hyper, make))

    return Method(name, build, space)


def _free(hyper: Hyper, make: Any) -> rllc.LearningLaw:
    return rllc.LearningLaw(conserve_gain=False)


def _initial(hyper: Hyper, make: Any) -> rllc.FixedLaw:
    return rllc.FixedLaw(initial_law(make(1.0)))


def _learned(hyper: Hyper, make: Any) -> rllc.FixedLaw:
    return rllc.FixedLaw(hyper["law"])


_laws: tuple[tuple[str, Law | None], ...]
_laws = (("rllc", None), ("rllc_free", _free), ("rllc_adam", None))
VARIANTS = {name: _method(name, law) for name, law in _laws}
FROZEN = {
    f"{name}_frozen_{kind}": _method(f"{name}_frozen_{kind}", law)
    for kind, law in (("initial", _initial), ("learned", _learned))
    for name in ("rllc", "rllc_adam")
}

METHODS: dict[str, Method] = {**BASELINES, **VARIANTS, **FROZEN, **COMPOSITIONS}
