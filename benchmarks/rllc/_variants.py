"""RLLC as it is compared: learning its law, learning it freely, and frozen.

The frozen laws show what learning the law contributes: the same memory with the law
that training starts from, and with the law that a tuned run has learned. Both have
trials of their own for the learning rate.
"""

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

# The defaults of `rllc.rllc` and `rllc.rllc_adam`.
MEMORY = rllc.decays(0.0, 0.9, 0.99)
ADAM_MEMORY = rllc.direct_sum(MEMORY, rllc.decays(0.999))
_BY_SIZE = {memory.size: memory for memory in (MEMORY, ADAM_MEMORY)}

# How far back the response of a law is recorded.
RESPONSE_LENGTH = 60


def _on_gradients(law: Any, hyper: Hyper, horizon: Horizon):
    rate = horizon.schedule(hyper["learning_rate"])
    return rllc.rllc(rate, memory=MEMORY, law=law)


def _on_adam(law: Any, hyper: Hyper, horizon: Horizon):
    rate = horizon.schedule(hyper["learning_rate"])
    return rllc.rllc_adam(rate, memory=ADAM_MEMORY, law=law)


def _rllc(horizon: Horizon, hyper: Hyper):
    return _on_gradients(rllc.LearningLaw(), hyper, horizon)


def _rllc_free(horizon: Horizon, hyper: Hyper):
    return _on_gradients(rllc.LearningLaw(conserve_gain=False), hyper, horizon)


def _rllc_adam(horizon: Horizon, hyper: Hyper):
    return _on_adam(None, hyper, horizon)


def _rllc_frozen_initial(horizon: Horizon, hyper: Hyper):
    law = rllc.FixedLaw(initial_law(rllc.rllc(1.0, memory=MEMORY)))
    return _on_gradients(law, hyper, horizon)


def _rllc_adam_frozen_initial(horizon: Horizon, hyper: Hyper):
    law = rllc.FixedLaw(initial_law(rllc.rllc_adam(1.0, memory=ADAM_MEMORY)))
    return _on_adam(law, hyper, horizon)


def _rllc_frozen_learned(horizon: Horizon, hyper: Hyper):
    return _on_gradients(rllc.FixedLaw(hyper["law"]), hyper, horizon)


def _rllc_adam_frozen_learned(horizon: Horizon, hyper: Hyper):
    return _on_adam(rllc.FixedLaw(hyper["law"]), hyper, horizon)


def initial_law(optimizer: optax.GradientTransformation) -> np.ndarray:
    """Return the law, shape (k,), that an optimizer starts from."""
    with jax.ensure_compile_time_eval():
        state = optimizer.init(jnp.zeros(1))
        return np.asarray(rllc.diagnostics(state).law[0])


def law_probe(opt_state: Any) -> dict[str, jax.Array]:
    """Read the law and its gain from an optimizer's state."""
    read = rllc.diagnostics(opt_state)
    return {"law": read.law[0], "gain": read.gain[0]}


def settled_law(probes: dict[str, Any]) -> np.ndarray | None:
    """Return a run's mean law over the second half of its points, if it has laws."""
    if "law" not in probes:
        return None
    laws = np.asarray(probes["law"])
    return laws[len(laws) // 2 :].mean(axis=0)


def response(laws: np.ndarray) -> np.ndarray:
    """Return the mean of the responses of several laws, shape (runs, k)."""
    memory = _BY_SIZE[laws.shape[-1]]
    return np.mean(rllc.response(memory, laws, RESPONSE_LENGTH), axis=0)


VARIANTS = {
    method.name: method
    for method in (
        Method("rllc", _rllc, MOMENTUM_RATE, probe=law_probe),
        Method("rllc_free", _rllc_free, MOMENTUM_RATE, probe=law_probe),
        Method("rllc_adam", _rllc_adam, ADAM_RATE, probe=law_probe),
    )
}

FROZEN = {
    method.name: method
    for method in (
        Method("rllc_frozen_initial", _rllc_frozen_initial, MOMENTUM_RATE),
        Method("rllc_adam_frozen_initial", _rllc_adam_frozen_initial, ADAM_RATE),
        Method("rllc_frozen_learned", _rllc_frozen_learned, MOMENTUM_RATE),
        Method("rllc_adam_frozen_learned", _rllc_adam_frozen_learned, ADAM_RATE),
    )
}

METHODS: dict[str, Method] = {**BASELINES, **VARIANTS, **FROZEN}
