"""Nothing is destroyed: zero, collinear, huge, tiny and non-finite gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc

OPTIMIZERS = {
    "default": rllc.rllc(0.1),
    "adam": rllc.rllc_adam(0.1),
    "complex": rllc.rllc(0.1, memory=rllc.complex_block(0.9, 0.3)),
    "leaf": rllc.rllc(0.1, law=rllc.LearningLaw(0.01, groups="leaf")),
    "pinv": rllc.rllc(
        0.1, law=rllc.LearningLaw(0.01, solver=rllc.PseudoInverse(), trust_region=0.1)
    ),
    "units": rllc.rllc(0.1, memory=rllc.units(optax.scale_by_adam(), optax.trace(0.9))),
}


def run(optimizer, gradients):
    """Updates of every step and the last state."""
    start = optimizer.init(jax.tree.map(lambda g: g[0], gradients))
    state, updates = scan(optimizer)(start, gradients)
    return updates, state


@functools.cache
def scan(optimizer):
    def step(state, gradient):
        updates, state = optimizer.update(gradient, state, gradient)
        return state, updates

    return jax.jit(functools.partial(jax.lax.scan, step))


def noise(steps, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.normal(size=(steps, 4, 3)), dtype),
        "b": jnp.asarray(rng.normal(size=(steps, 3)), dtype),
    }


def all_finite(tree):
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_bad_gradient_changes_nothing_and_is_counted(name, bad):
    optimizer = OPTIMIZERS[name]
    gradients = noise(12)
    _, before = run(optimizer, jax.tree.map(lambda g: g[:6], gradients))
    spoiled = jax.tree.map(lambda g: g[6], gradients)
    spoiled["w"] = spoiled["w"].at[1, 1].set(bad)
    updates, after = jax.jit(optimizer.update)(spoiled, before, spoiled)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates)
    law, law_before = rllc.diagnostics(after), rllc.diagnostics(before)
    assert int(law.skipped) == 1
    np.testing.assert_array_equal(law.law, law_before.law)
    kept, expected = (
        [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
        for state in (after, before)
    )
    for got, wanted in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    _, healed = jax.jit(optimizer.update)(
        jax.tree.map(lambda g: g[7], gradients), after, spoiled
    )
    assert int(rllc.diagnostics(healed).skipped) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_gradients_for_many_steps_are_harmless(name):
    gradients = jax.tree.map(
        lambda g: jnp.concatenate([jnp.zeros_like(g), g[:20], jnp.zeros_like(g), g]),
        noise(500),
    )
    updates, state = run(OPTIMIZERS[name], gradients)
    assert all_finite(updates)
    assert int(rllc.diagnostics(state).skipped) == 0
    jax.tree.map(lambda u: np.testing.assert_array_equal(u[:500], 0), updates)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_collinear_units_are_harmless(name):
    """Constant gradients make all units multiples of each other."""
    gradients = jax.tree.map(lambda g: jnp.repeat(g, 2000, axis=0), noise(1))
    updates, state = run(OPTIMIZERS[name], gradients)
    assert all_finite(updates)
    assert all_finite(rllc.diagnostics(state).law)
    assert int(rllc.diagnostics(state).skipped) == 0


@pytest.mark.parametrize("name", ["default", "leaf", "complex"])
@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1e-15, 1e15])
def test_tiny_and_huge_gradients_are_followed(name, scale):
    gradients = jax.tree.map(lambda g: scale * (g + 1), noise(50))
    updates, state = run(OPTIMIZERS[name], gradients)
    assert all_finite(updates)
    assert int(rllc.diagnostics(state).skipped) == 0
    assert float(jnp.abs(updates["w"][-1]).max()) > 1e-3 * scale


@pytest.mark.parametrize("name", ["default", "adam", "units"])
@pytest.mark.parametrize("scale", [6e-8, 1.0, 6e4])
def test_half_precision_saturates_and_goes_on(name, scale):
    raw = noise(60)
    gradients = jax.tree.map(lambda g: (scale * jnp.sign(g)).astype(jnp.float16), raw)
    updates, state = run(OPTIMIZERS[name], gradients)
    assert all_finite(updates)
    assert all_finite(state)
    assert updates["w"].dtype == jnp.float16
    if name == "default" or scale == 1.0:
        # Beyond that Adam's second moment leaves float16's range: skipped, counted.
        assert int(rllc.diagnostics(state).skipped) == 0


def test_the_correction_is_bounded_whatever_comes():
    """|x|_P ≤ 1/(2 ρ √H): a sudden jump of the gradient cannot throw the law."""
    memory, ridge = rllc.decays(0.0, 0.9), 1e-3
    law = rllc.LearningLaw(1.0, solver=rllc.Ridge(ridge), conserve_gain=False)
    optimizer = rllc.scale_by_rllc(memory, law)
    update = jax.jit(optimizer.update)
    rng = np.random.default_rng(0)
    for _ in range(50):
        scales = 10.0 ** rng.uniform(-8, 8, size=(6, 1))
        gradients = jnp.asarray(scales * rng.normal(size=(6, 5)), jnp.float32)
        state = optimizer.init(gradients[0])
        for gradient in gradients:
            before = state.law[0]
            _, state = update(gradient, state)
            change = np.asarray(state.law[0] - before, np.float64)
            spectrum = memory.spectrum
            length = np.sqrt(change @ spectrum.gramian @ change)
            assert length <= 1.01 / (2 * ridge * np.sqrt(spectrum.resonance))


def counted(state):
    seen = rllc.diagnostics(state)
    return int(seen.skipped), int(seen.consecutive_skips)


@pytest.mark.parametrize("make", [rllc.rllc, rllc.rllc_adam])
def test_a_skipped_step_of_a_complete_optimizer_changes_only_its_counts(make):
    """No weight decay, no step of any schedule, no second moment."""
    optimizer = make(
        optax.linear_schedule(0.1, 0.0, 10),
        law=rllc.LearningLaw(optax.linear_schedule(0.1, 0.0, 10), refresh=2),
        weight_decay=optax.linear_schedule(0.1, 0.0, 10),
    )
    good = [jax.tree.map(lambda g, i=i: g[i], noise(4)) for i in range(4)]
    bad = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), good[0])
    update = jax.jit(optimizer.update)

    def train(gradients):
        params = jax.tree.map(jnp.ones_like, good[0])
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    params, state = train(good)
    with_bad, state_with_bad = train([bad, *good[:2], bad, bad, *good[2:]])
    jax.tree.map(np.testing.assert_array_equal, with_bad, params)
    assert counted(state) == (0, 0)
    assert counted(state_with_bad) == (3, 0)
    assert counted(train([*good, bad, bad])[1]) == (2, 2)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("eps", [1e-8, 0.0])
def test_an_entry_without_gradient_does_not_stop_the_others(dtype, eps):
    """Adam's epsilon must not underflow, and 0 / 0 must not spread."""
    optimizer = rllc.rllc_adam(0.1, eps=eps)
    gradient = jnp.array([0.0, 1.0, -0.5, 1e-24], dtype)
    params = jnp.zeros(4, dtype)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(5):
        updates, state = update(gradient, state, params)
        params = params + updates
    assert counted(state) == (0, 0)
    assert params[0] == 0
    assert params[1] < -0.1
    assert params[2] > 0.1


UNDAMPED = rllc.LinearMemory([[1.0]], [1.0])
FREE = rllc.LearningLaw(0.01, solver=rllc.PseudoInverse(), conserve_gain=False)
PLATEAU = optax.contrib.reduce_on_plateau(accumulation_size=5)


BOTH = rllc.units(rllc.scale_by_rllc(UNDAMPED, FREE), optax.trace(0.9))
INFINITE = {
    "gain": rllc.rllc(0.1, rllc.direct_sum(rllc.decays(0.9), UNDAMPED), FREE),
    "gain inside units": rllc.rllc(0.1, BOTH),
    "best loss inside units": rllc.rllc(0.1, rllc.units(PLATEAU, optax.trace(0.9))),
    "rate at first": rllc.rllc(0.1, law=rllc.LearningLaw(lambda count: 0.1 / count)),
    "rate always": rllc.rllc(0.1, law=rllc.LearningLaw(lambda count: count * np.nan)),
}


@pytest.mark.parametrize("name", INFINITE)
def test_what_is_infinite_without_the_gradient_does_not_stop_training(name):
    optimizer = INFINITE[name]
    params = jnp.ones(3)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(3):
        before = state
        updates, state = update(0.1 * params, state, params, value=jnp.ones(()))
        assert np.all(np.isfinite(updates) & (updates < 0))
        params = params + updates
    for seen, earlier in zip(*map(each_law, (state, before)), strict=True):
        assert int(seen.skipped) == 0
        assert np.isfinite(seen.law).all()
        assert np.any(seen.law != earlier.law) == (name != "rate always")


def test_a_rate_that_is_injected_and_not_finite_does_not_stop_training():
    @jax.jit
    def run(rate):
        optimizer = rllc.scale_by_rllc(law=rllc.LearningLaw(rate))
        state = optimizer.init(jnp.ones(3))
        for _ in range(2):
            updates, state = optimizer.update(jnp.ones(3), state)
        return updates, state

    for rate in (np.nan, np.inf):
        jax.tree.map(np.testing.assert_array_equal, run(rate), run(0.0))


def each_law(state):
    seen = rllc.diagnostics(state)
    return list(seen.values()) if isinstance(seen, dict) else [seen]


def injected(dtype, **options):
    wrap = optax.inject_hyperparams(rllc.rllc_adam, **options)
    return wrap(learning_rate=0.1), {"w": jnp.ones(3, dtype)}


def test_a_b2_that_rounds_to_1_is_an_error_that_names_the_remedy():
    """Optax casts injected hyperparameters to the parameters' dtype."""
    optimizer, params = injected(jnp.bfloat16)
    for init in (optimizer.init, jax.jit(optimizer.init)):
        with pytest.raises(ValueError, match=r"b2: .* hyperparam_dtype=float32"):
            init(params)
    optimizer, params = injected(jnp.bfloat16, hyperparam_dtype=jnp.float32)
    state = optimizer.init(params)
    updates, state = jax.jit(optimizer.update)(params, state, params)
    assert counted(state) == (0, 0)
    assert jnp.all(updates["w"] < 0)


@pytest.mark.parametrize(
    "options",
    [{"law": rllc.LearningLaw(refresh=40)}, {"memory_dtype": jnp.bfloat16}],
    ids=["measured now and then", "measured at each step"],
)
def test_units_too_long_for_their_squares_do_not_stop_training(options):
    """Gradients whose squares are finite fill units whose squares are not."""
    burst, later = np.full((35, 3), 5e17), np.ones((100, 3))
    gradients = jnp.asarray(np.concatenate([burst, later]), jnp.float32)
    optimizer = rllc.scale_by_rllc(**options)
    updates, state = run(optimizer, gradients)
    assert state.skipped == 0
    assert np.isfinite(updates).all()
    assert np.isfinite(state.law).all()


def test_squares_of_units_overflow_and_the_law_learns_again_afterwards():
    gradients = np.concatenate([np.full((40, 3), 5e17), np.zeros((3000, 3))])
    gradients[2000:] = np.random.default_rng(0).normal(size=(1040, 3)) + 1.0
    optimizer = rllc.scale_by_rllc(law=rllc.LearningLaw(0.01, refresh=40))
    _, state = run(optimizer, jnp.asarray(gradients, jnp.float32))
    assert state.skipped == 0
    assert np.abs(state.law - rllc.decays(0.0, 0.9, 0.99).initial_law).max() > 1e-3
