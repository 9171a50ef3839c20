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


LAW = rllc.LearningLaw(0.05)
SEVERAL = {
    "chain": lambda: optax.chain(rllc.scale_by_rllc(law=LAW), rllc.rllc(0.1)),
    "partition": lambda: optax.partition(
        {"slow": rllc.rllc(0.1, law=LAW), "fast": rllc.rllc_adam(0.1)},
        {"a": "slow", "b": "fast"},
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_laws_are_read_and_frozen_by_path(name):
    optimizer = SEVERAL[name]()
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    state = optimizer.init(params)
    for _ in range(3):
        _, state = jax.jit(optimizer.update)(params, state, params)
    seen, frozen = rllc.diagnostics(state), rllc.freeze(state)
    assert len(seen) == 2
    assert seen.keys() == frozen.keys()
    for path, one in seen.items():
        np.testing.assert_array_equal(frozen[path].coefficients, one.law[0])
        assert one.law.shape == eval(f"state{path}.law", {"state": state}).shape


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: optax.MultiSteps(inner, 2),
        lambda inner: optax.masked(inner, {"a": True, "b": False}),
        lambda inner: optax.apply_if_finite(inner, 3),
        lambda inner: optax.contrib.schedule_free(inner, 0.1, b1=0.9),
    ],
)
def test_one_law_inside_a_wrapper_is_read_as_it_is(wrap):
    state = wrap(rllc.rllc(0.1)).init({"a": jnp.ones(3), "b": jnp.ones(2)})
    assert rllc.diagnostics(state).law.shape == (1, 3)
    assert rllc.freeze(state).coefficients.shape == (3,)


def test_the_laws_of_a_label_without_leaves_are_frozen_too():
    def make(x, y):
        optimizers = {"x": rllc.rllc(0.1, law=x), "y": rllc.rllc(0.1, law=y)}
        return optax.partition(optimizers, "x")

    params = jnp.ones(3)
    state = make(None, rllc.LearningLaw(groups="leaf")).init(params)
    frozen = make(*rllc.freeze(state).values())
    updates, _ = frozen.update(params, frozen.init(params), params)
    expected = -0.1 * rllc.decays(0.0, 0.9, 0.99).initial_law.sum()
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_states_without_a_law_are_rejected():
    with pytest.raises(ValueError, match="state: expected at least one RLLC state"):
        rllc.diagnostics(optax.adam(0.1).init(jnp.ones(2)))


def test_vmapped_states_are_frozen_inside_vmap():
    memory = rllc.decays(0.0, 0.9)
    optimizer = rllc.rllc(0.1, memory, rllc.LearningLaw(0.1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)

    def learned(x):
        state = optimizer.init(x)
        for _ in range(3):
            _, state = optimizer.update(x, state)
        return state

    states = jax.jit(jax.vmap(learned))(x)
    with pytest.raises(ValueError, match=r"call freeze inside jax\.vmap"):
        rllc.freeze(states)

    @jax.jit
    @jax.vmap
    def go_on(state, x):
        frozen = rllc.rllc(0.1, memory, rllc.freeze(state))
        return frozen.update(x, frozen.init(x))[0]

    law = rllc.diagnostics(states).law[:, 0]
    expected = -0.1 * law.sum(-1, keepdims=True) * x
    np.testing.assert_allclose(go_on(states, x), expected, rtol=1e-5)


def test_a_fixed_law_has_no_gram_matrix_to_read():
    seen = rllc.diagnostics(rllc.momentum(0.1).init(jnp.ones(2)))
    assert seen.condition is seen.explained is None
    undamped = rllc.LinearMemory([[1.0]], [1.0])
    optimizer = rllc.scale_by_rllc(undamped, rllc.FixedLaw([1.0]))
    assert rllc.diagnostics(optimizer.init(jnp.ones(2))).gain == np.inf


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
def test_bad_responses_are_rejected(arguments, error, message):
    with pytest.raises(error, match=message):
        rllc.response(*arguments)
