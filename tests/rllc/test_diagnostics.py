"""Diagnostics: what is reported is what happened."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc


def trained(optimizer, steps=20, seed=0):
    gradients = np.random.default_rng(seed).normal(size=(steps, 8)) + 0.5
    state, update = jax.jit(optimizer.init)(jnp.zeros(8)), jax.jit(optimizer.update)
    for gradient in gradients.astype(np.float32):
        _, state = update(gradient, state, jnp.zeros(8))
    return state


def test_diagnostics_agree_with_numpy():
    memory = rllc.decays(0.0, 0.9)
    optimizer = rllc.scale_by_rllc(memory, rllc.LearningLaw(0.01))
    before = trained(optimizer, 20)
    state = trained(optimizer, 21)
    gradient = np.random.default_rng(0).normal(size=(21, 8))[-1] + 0.5
    seen = rllc.diagnostics(state)
    units = np.stack(before.memory, axis=-1).astype(np.float64)
    projected = units @ np.linalg.lstsq(units, gradient, rcond=None)[0]
    share = projected @ projected / (gradient @ gradient)
    np.testing.assert_allclose(seen.explained[0], share, rtol=0.02)
    now = np.stack(state.memory, axis=-1) @ memory.spectrum.whitening
    np.testing.assert_allclose(
        seen.condition[0], np.linalg.cond(now.T @ now), rtol=1e-3
    )
    np.testing.assert_allclose(seen.gain, seen.law @ memory.spectrum.gain, rtol=1e-6)
    assert int(seen.skipped) == 0


def test_diagnostics_reach_through_chains_and_wrappers():
    optimizer = optax.apply_if_finite(
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.inject_hyperparams(rllc.rllc_adam)(learning_rate=0.1),
        ),
        3,
    )
    assert rllc.diagnostics(trained(optimizer)).law.shape == (1, 4)


def test_diagnostics_work_under_vmap():
    optimizer = rllc.rllc(0.1)

    @jax.jit
    @jax.vmap
    def states(x):
        return optimizer.update(x, optimizer.init(x))[1]

    assert rllc.diagnostics(states(jnp.ones((4, 3)))).law.shape == (4, 1, 3)


@pytest.mark.parametrize("count", [0, 2])
def test_states_without_exactly_one_law_are_refused(count):
    optimizer = optax.chain(optax.identity(), *[rllc.scale_by_rllc()] * count)
    with pytest.raises(
        ValueError, match=f"exactly one RLLC state in it, found {count}"
    ):
        rllc.diagnostics(optimizer.init(jnp.ones(2)))


def test_the_response_is_what_the_optimizer_does_to_an_impulse():
    memory = rllc.direct_sum(rllc.decays(0.0, 0.8), rllc.complex_block(0.9, 0.6))
    law = np.array([0.5, 1.0, -0.3, 0.7])
    optimizer = rllc.scale_by_rllc(memory, rllc.FixedLaw(law))
    impulse = jnp.eye(8)[:, :1]
    state, seen = optimizer.init(impulse[0]), []
    for gradient in impulse:
        updates, state = optimizer.update(gradient, state)
        seen.append(float(updates[0]))
    np.testing.assert_allclose(rllc.response(memory, law, 8), seen, rtol=1e-5)


def test_the_whole_response_sums_to_the_gain():
    memory, law = rllc.decays(0.0, 0.5, 0.9), rllc.LearningLaw(initial=[0.3, 0.1, 1.0])
    gain = rllc.diagnostics(rllc.scale_by_rllc(memory, law).init(jnp.ones(2))).gain[0]
    assert rllc.response(memory, law, 400).sum() == pytest.approx(float(gain))


def test_a_frozen_law_goes_on_as_the_law_is():
    memory = rllc.decays(0.0, 0.9)
    state = trained(rllc.rllc(0.1, memory))
    frozen = rllc.freeze(state)
    np.testing.assert_array_equal(frozen.coefficients, rllc.diagnostics(state).law[0])
    assert rllc.diagnostics(rllc.rllc(0.1, memory, frozen).init(jnp.ones(8))).gain[
        0
    ] == pytest.approx(10.0, rel=1e-6)


def test_several_laws_are_frozen_with_their_groups_only():
    law = rllc.LearningLaw(0.1, groups="leaf")
    optimizer = rllc.scale_by_rllc(rllc.decays(0.0, 0.9), law)
    state = optimizer.init([jnp.ones(2), jnp.ones(3)])
    with pytest.raises(
        ValueError, match="groups: expected those of the LearningLaw, got None"
    ):
        rllc.freeze(state)
    frozen = rllc.freeze(state, groups="leaf")
    rllc.scale_by_rllc(rllc.decays(0.0, 0.9), frozen).init([jnp.ones(2), jnp.ones(3)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((rllc.units(optax.identity()), [1.0], 3), TypeError, "LinearMemory"),
        ((rllc.decays(0.9), [1.0, 2.0], 3), ValueError, r"law: expected shape \(1,\)"),
        ((rllc.decays(0.9), [1.0], 0), ValueError, "length: expected an integer"),
    ],
)
def test_bad_responses_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        rllc.response(*arguments)
