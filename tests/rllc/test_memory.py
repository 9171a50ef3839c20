"""Memory: the units are what their formulas say, and bad ones are rejected."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rllc

GRADIENTS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


def fill(memory, gradients=GRADIENTS):
    state = memory.init(jnp.zeros(gradients.shape[1]))
    for gradient in gradients:
        state = memory.update(jnp.asarray(gradient), state)
    return np.stack(memory.units(state), axis=-1)


def test_decays_are_exponentially_weighted_sums():
    got = fill(rllc.decays(0.0, 0.5, 0.9))
    ages = np.arange(len(GRADIENTS))[::-1]
    for unit, rate in enumerate([0.0, 0.5, 0.9]):
        weights = rate**ages
        np.testing.assert_allclose(got[:, unit], weights @ GRADIENTS, rtol=1e-5)


def test_gradient_history_holds_the_last_gradients():
    got = fill(rllc.gradient_history(3))
    np.testing.assert_array_equal(got, GRADIENTS[-1:-4:-1].T)


def test_a_real_block_chains_decaying_sums():
    got = fill(rllc.real_block(0.8, size=3))
    units = np.zeros((3, GRADIENTS.shape[1]))
    for gradient in GRADIENTS:
        units = 0.8 * units + np.stack([gradient, units[0], units[1]])
    np.testing.assert_allclose(got, units.T, rtol=1e-5, atol=1e-6)


def test_a_complex_block_rotates_and_decays():
    got = fill(rllc.complex_block(0.9, 0.7, size=2))
    first = second = np.zeros(GRADIENTS.shape[1], complex)
    for gradient in GRADIENTS:
        pole = 0.9 * np.exp(0.7j)
        first, second = pole * first + gradient, pole * second + first
    expected = np.stack([first.real, first.imag, second.real, second.imag], axis=-1)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_direct_sum_is_its_parts_side_by_side():
    parts = rllc.decays(0.0, 0.9), rllc.complex_block(0.8, 1.0)
    whole = rllc.direct_sum(*parts)
    expected = np.concatenate([fill(part) for part in parts], axis=-1)
    np.testing.assert_allclose(fill(whole), expected, rtol=1e-6)
    expected = [*parts[0].initial_law, 0, 0]
    np.testing.assert_array_equal(whole.initial_law, expected)


@pytest.mark.parametrize(
    "rates", [(0.0,), (0.9,), (0.0, 0.9), (0.0, 0.9, 0.99), (0.5,)]
)
def test_the_default_law_of_decays_has_the_gain_of_momentum(rates):
    memory = rllc.decays(*rates)
    nearest = min(rates, key=lambda rate: abs(rate - 0.9))
    assert memory.spectrum.gain @ memory.initial_law == pytest.approx(1 / (1 - nearest))
    lengths = np.diag(memory.spectrum.gramian)
    np.testing.assert_allclose(np.ptp(memory.initial_law * lengths), 0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_the_gramian_is_the_gram_matrix_under_white_gradients(size, seed):
    """P = Σⱼ (bᵀAʲ)ᵀ(bᵀAʲ), a sum that needs no equation solver."""
    rng = np.random.default_rng(seed)
    propagator = rng.normal(size=(size, size))
    propagator *= 0.9 / np.abs(np.linalg.eigvals(propagator)).max()
    memory = rllc.LinearMemory(propagator, rng.normal(size=size))
    try:
        spectrum = memory.spectrum
    except ValueError:
        return
    responses = [memory.input]
    for _ in range(1500):
        responses.append(responses[-1] @ propagator)
    responses = np.stack(responses)
    np.testing.assert_allclose(
        spectrum.gramian,
        responses.T @ responses,
        rtol=1e-6,
        atol=1e-9 * np.abs(spectrum.gramian).max(),
    )
    np.testing.assert_allclose(
        spectrum.gain, responses.sum(0), atol=1e-7 * np.abs(responses).sum()
    )
    whitened = spectrum.whitening.T @ spectrum.gramian @ spectrum.whitening
    np.testing.assert_allclose(whitened, np.eye(size), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, np.pi), st.integers(0, 3))
def test_no_oscillation_fills_the_memory_beyond_its_resonance(frequency, which):
    memory = [
        rllc.decays(0.0, 0.9, 0.99),
        rllc.real_block(0.9, 3),
        rllc.complex_block(0.95, 0.4),
        rllc.gradient_history(4),
    ][which]
    resolvent = np.eye(memory.size) - np.exp(1j * frequency) * memory.propagator.T
    filled = np.linalg.solve(resolvent, memory.input.astype(complex))
    trace = (filled.conj() @ np.linalg.solve(memory.spectrum.gramian, filled)).real
    assert trace <= memory.spectrum.resonance * (1 + 1e-9)


def test_constant_gradients_reach_the_resonance_of_positive_decays():
    spectrum = rllc.decays(0.0, 0.9, 0.99).spectrum
    trace = spectrum.gain @ np.linalg.solve(spectrum.gramian, spectrum.gain)
    assert trace == pytest.approx(spectrum.resonance)
    assert spectrum.resonance == pytest.approx(1 + 19 + 199)


def test_the_default_law_of_a_linear_memory_has_gain_one_in_every_basis():
    original = rllc.LinearMemory(np.diag([0.3, 0.9]), [1.0, 1.0])
    change = np.array([[2.0, 1.0], [-1.0, 3.0]])
    changed = rllc.LinearMemory(
        np.linalg.solve(change, original.propagator @ change), change.T @ original.input
    )
    assert original.spectrum.gain @ original.initial_law == pytest.approx(1)
    np.testing.assert_allclose(change @ changed.initial_law, original.initial_law)


def test_units_hold_the_outputs_of_the_transformations():
    memory = rllc.units(optax.trace(0.9), optax.scale_by_adam())
    state = memory.init(jnp.zeros(5))
    expected = [optax.trace(0.9), optax.scale_by_adam()]
    states = [t.init(jnp.zeros(5)) for t in expected]
    for gradient in jnp.asarray(GRADIENTS):
        state = memory.update(gradient, state)
        outputs, states = zip(
            *(t.update(gradient, s) for t, s in zip(expected, states, strict=True)),
            strict=True,
        )
    jax.tree.map(np.testing.assert_array_equal, memory.units(state), outputs)


def test_units_pass_parameters_and_extra_arguments_on():
    seen = {}

    def update(updates, state, params=None, *, value, **extra_args):
        seen.update(value=value, params=params)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda params: (), update)
    optimizer = rllc.scale_by_rllc(rllc.units(spy), rllc.FixedLaw([1.0]))
    x = jnp.ones(2)
    optimizer.update(x, optimizer.init(x), x, value=3.0)
    assert seen["value"] == 3.0
    assert seen["params"] is x


def test_users_memories_need_only_the_protocol():
    class SignMemory:
        size = 1
        initial_law = np.ones(1)

        def init(self, params, dtype=None):
            return (optax.tree.zeros_like(params, dtype=dtype),)

        def units(self, state):
            return state

        def update(self, gradient, state, params=None, **extra_args):
            return (jax.tree.map(jnp.sign, gradient),)

    optimizer = rllc.rllc(0.5, memory=SignMemory())
    x = jnp.array([3.0, -2.0])
    updates, _ = optimizer.update(x, optimizer.init(x), x)
    np.testing.assert_array_equal(updates, [-0.5, 0.5])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: rllc.LinearMemory(np.ones((2, 3)), [1, 1]),
            "propagator: expected a sq",
        ),
        (
            lambda: rllc.LinearMemory(np.ones(3), [1, 1, 1]),
            "propagator: expected 2 dim",
        ),
        (lambda: rllc.LinearMemory(np.zeros((0, 0)), []), "at least one row"),
        (lambda: rllc.LinearMemory([[np.nan]], [1]), "propagator: expected finite"),
        (lambda: rllc.LinearMemory([[0.5]], [np.inf]), "input: expected finite"),
        (lambda: rllc.LinearMemory([[0.5]], [1, 2]), r"input: expected shape \(1,\)"),
        (
            lambda: rllc.LinearMemory([[0.5]], [1], [1, 2]),
            "initial_law: expected shape",
        ),
        (lambda: rllc.LinearMemory([[0.5j]], [1]), "propagator: expected real"),
        (lambda: rllc.decays(), "rates: expected at least one"),
        (lambda: rllc.decays(0.5, 1.0), r"rates: expected a number in \(-1, 1\)"),
        (lambda: rllc.real_block(1.5), r"decay: expected a number in \(-1, 1\)"),
        (lambda: rllc.real_block(0.5, 0), "size: expected an integer of at least 1"),
        (lambda: rllc.complex_block(-0.1, 1.0), "radius: expected a number in"),
        (
            lambda: rllc.complex_block(0.9, 0.0),
            "angle: expected a finite number that is no multiple",
        ),
        (lambda: rllc.gradient_history(0), "k: expected an integer of at least 1"),
        (lambda: rllc.gradient_history(2.0), "k: expected an integer of at least 1"),
        (lambda: rllc.direct_sum(), "memories: expected at least one"),
        (lambda: rllc.units(), "transformations: expected at least one"),
        (lambda: rllc.scale_by_rllc(rllc.decays(0.9, 0.9)), "controllable"),
        (
            lambda: rllc.scale_by_rllc(rllc.LinearMemory([[1.0]], [1.0])),
            "spectral radius below 1",
        ),
        (
            lambda: rllc.scale_by_rllc(rllc.LinearMemory(0.5 * np.eye(2), [1.0, 0.0])),
            "controllable",
        ),
    ],
)
def test_bad_memories_are_rejected_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: rllc.direct_sum(rllc.units(optax.identity())),
        lambda: rllc.units(0.9),
        lambda: rllc.scale_by_rllc(memory=0.9),
    ],
)
def test_objects_of_the_wrong_kind_are_rejected(build):
    with pytest.raises(TypeError):
        build()


def test_an_undamped_memory_works_with_the_free_pseudo_inverse():
    memory = rllc.LinearMemory([[1.0]], [1.0])
    law = rllc.LearningLaw(0.01, solver=rllc.PseudoInverse(), conserve_gain=False)
    optimizer = rllc.scale_by_rllc(memory, law)
    state = optimizer.init(jnp.zeros(5))
    for gradient in jnp.asarray(GRADIENTS):
        updates, state = optimizer.update(gradient, state)
    assert np.all(np.isfinite(updates))
    assert np.abs(updates).min() > 0
    assert int(state.skipped) == 0
    assert np.abs(state.law - memory.initial_law).max() > 1e-4
