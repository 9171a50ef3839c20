"""The float32 correction is the float64 one to within 5 %, for every memory offered."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc

pytestmark = pytest.mark.optimized
STEPS, SIZE = 10_000, 256
MEMORIES = {
    "default": rllc.decays(0.0, 0.9, 0.99),
    "default on Adam": rllc.decays(0.0, 0.9, 0.99, 0.999),
    "close decays": rllc.decays(0.8, 0.9, 0.95, 0.99),
    "long decay": rllc.decays(0.0, 0.9, 0.999),
    "real block": rllc.real_block(0.9, 4),
    "complex block": rllc.complex_block(0.9, 0.3, 2),
    "gradient history": rllc.gradient_history(4),
    "direct sum": rllc.direct_sum(
        rllc.decays(0.0), rllc.complex_block(0.95, 0.5), rllc.real_block(0.8, 2)
    ),
    "units": rllc.units(optax.trace(0.9), optax.ema(0.99, debias=False)),
}


@functools.partial(jax.jit, static_argnames=("name", "dtype"))
def corrections(name, gradients, dtype):
    """The change that each gradient asks of a law which itself stays put.

    A free law at rate 1 whose state is set back after each step shows the correction.
    """
    memory = MEMORIES[name]
    law = rllc.LearningLaw(1.0, conserve_gain=False)
    optimizer = rllc.scale_by_rllc(memory, law)
    initial = jnp.asarray(memory.initial_law, dtype)[None]

    def step(state, gradient):
        _, state = optimizer.update(gradient.astype(dtype), state)
        return state._replace(law=initial), state.law[0] - initial[0]

    start = optimizer.init(jnp.zeros(gradients.shape[1], dtype))
    return jax.lax.scan(step, start, gradients)[1]


@pytest.mark.parametrize("signal_to_noise", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("name", MEMORIES)
def test_float32_corrections_are_within_five_percent(name, signal_to_noise, x64):
    """Lengths are measured in the metric of the Gramian, which no basis changes."""
    memory = MEMORIES[name]
    rng = np.random.default_rng(0)
    mean = rng.normal(size=SIZE) * signal_to_noise / np.hypot(1, signal_to_noise)
    noise = rng.normal(size=(STEPS, SIZE)) / np.hypot(1, signal_to_noise)
    gradients = jnp.asarray(mean + noise, jnp.float32)
    single = np.asarray(corrections(name, gradients, jnp.float32), np.float64)
    double = np.asarray(corrections(name, gradients, jnp.float64))
    linear = isinstance(memory, rllc.LinearMemory)
    metric = memory.spectrum.gramian if linear else np.eye(memory.size)

    def length(x):
        return np.sqrt(np.einsum("ti,ij,tj->t", x, metric, x))

    error, size = length(single - double)[1:], length(double)[1:]
    assert np.all(error <= 0.05 * size), np.max(error / size)
