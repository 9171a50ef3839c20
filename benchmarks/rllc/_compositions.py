"""RLLC with another law, in place of another optimizer's momentum, and averaged.

The same methods without it are among the baselines or stand next to them.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

import rllc
from benchmarks.baselines import (
    ADAM_RATE,
    MOMENTUM_RATE,
    SIGN_RATE,
    Method,
    schedule_free,
    with_schedule,
)
from benchmarks.rllc._averages import averaged, evaluated, looking_ahead


def _momentum() -> optax.GradientTransformation:
    """RLLC whose initial law has gain 1, for use before a step-size rule."""
    memory = rllc.decays(0.0, 0.9, 0.99)
    initial = memory.initial_law / (memory.initial_law @ memory.spectrum.gain)
    return rllc.scale_by_rllc(memory, rllc.LearningLaw(initial=initial))


def _nadam(rate: Any) -> optax.GradientTransformation:
    """Start from NAdam's law: 0.1 of the gradient and 0.9 of the average, gain 1."""
    law = rllc.LearningLaw(rate=1e-3, initial=[0.1, 0.09])
    return rllc.rllc_adam(rate, memory=rllc.decays(0.0, 0.9), law=law)


def _muon(rate: Any) -> optax.GradientTransformation:
    """Muon of a gradient, without momentum; vectors take RMSProp's steps."""
    return optax.contrib.muon(
        rate, beta=0.0, nesterov=False, adam_b1=0.0, consistent_rms=0.2
    )


def _rllc_muon(rate: Any) -> optax.GradientTransformation:
    return optax.chain(_momentum(), _muon(rate))


def _muon_rllc(rate: Any) -> optax.GradientTransformation:
    # At a rate of 1 Muon's steps are already descent directions.
    return optax.chain(_muon(1.0), _momentum(), optax.scale_by_schedule(rate))


def _rllc_sign(rate: Any) -> optax.GradientTransformation:
    scale = optax.scale_by_learning_rate(rate)
    return optax.chain(_momentum(), optax.scale_by_sign(), scale)


def _sign_rllc(rate: Any) -> optax.GradientTransformation:
    scale = optax.scale_by_learning_rate(rate)
    return optax.chain(optax.scale_by_sign(), _momentum(), scale)


def _schedule_free(peak: Any, warmup: int) -> optax.GradientTransformation:
    rate = optax.warmup_constant_schedule(0.0, peak, warmup)
    return optax.contrib.schedule_free(rllc.rllc_adam(rate), rate)


def _around(name: str, wrap: Callable[[Any], Any]) -> list[Method]:
    return [
        with_schedule(
            f"{inner}_{name}",
            lambda rate, make=make: wrap(make(rate)),
            ADAM_RATE,
            eval_params=evaluated,
        )
        for inner, make in (("adam", optax.adam), ("rllc_adam", rllc.rllc_adam))
    ]


def _large_batch(rate: Any, learn: bool = True) -> optax.GradientTransformation:
    law = rllc.large_batch_law()
    return rllc.rllc(rate, law=law if learn else rllc.FixedLaw(law.initial))


COMPOSITIONS = {
    method.name: method
    for method in (
        with_schedule("rllc_large_batch", _large_batch, MOMENTUM_RATE),
        with_schedule(
            "rllc_large_batch_frozen_initial",
            lambda rate: _large_batch(rate, learn=False),
            MOMENTUM_RATE,
        ),
        with_schedule(
            "rllc_bfloat16_memory",
            lambda rate: rllc.rllc(rate, memory_dtype=jnp.bfloat16),
            MOMENTUM_RATE,
        ),
        with_schedule(
            "rllc_adam_bfloat16_memory",
            lambda rate: rllc.rllc_adam(rate, memory_dtype=jnp.bfloat16),
            ADAM_RATE,
        ),
        with_schedule("nadam_rllc", _nadam, ADAM_RATE),
        # Signs, as of Lion, and orthogonal steps, as of Muon: of RLLC's steps, then
        # RLLC of theirs.
        with_schedule("rllc_sign", _rllc_sign, SIGN_RATE),
        with_schedule("sign_rllc", _sign_rllc, SIGN_RATE),
        with_schedule("rllc_muon", _rllc_muon, ADAM_RATE),
        with_schedule("muon_rllc", _muon_rllc, ADAM_RATE),
        schedule_free("schedule_free_rllc_adam", _schedule_free),
        *_around("averaged", averaged),
        *_around("lookahead", looking_ahead),
    )
}
