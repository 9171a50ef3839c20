"""At home in Optax: chains, masks, partitions, schedules, donation, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import rllc

PARAMS = {
    "w": jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)), jnp.float32),
    "b": jnp.zeros(4),
}
INPUTS = jnp.asarray(np.random.default_rng(2).normal(size=(16, 6)), jnp.float32)
TARGETS = jnp.asarray(np.random.default_rng(3).normal(size=(16, 4)), jnp.float32)


def loss(params):
    return jnp.mean((INPUTS @ params["w"] + params["b"] - TARGETS) ** 2)


gradient = jax.jit(jax.grad(loss))


def train(optimizer, steps, params=PARAMS, state=None):
    state = jax.jit(optimizer.init)(params) if state is None else state

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def assert_equal(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def assert_close(got, wanted, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, 1e-6), got, wanted)


def test_the_alias_is_the_chain():
    chained = optax.chain(
        rllc.scale_by_rllc(),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(0.05),
    )
    alias = train(rllc.rllc(0.05, weight_decay=0.1), 10)[0]
    assert_close(alias, train(chained, 10)[0], rtol=1e-6)


def test_weight_decay_is_masked():
    plain = train(rllc.rllc(0.0), 1)[0]
    decayed = train(
        rllc.rllc(
            0.1,
            rllc.decays(0.0),
            rllc.FixedLaw([1.0]),
            weight_decay=1.0,
            mask={"w": True, "b": False},
        ),
        1,
    )[0]
    g = gradient(PARAMS)
    np.testing.assert_allclose(decayed["w"], 0.9 * plain["w"] - 0.1 * g["w"], rtol=1e-5)
    np.testing.assert_allclose(decayed["b"], -0.1 * g["b"], rtol=1e-5)


def test_a_chain_in_front_changes_what_memory_sees():
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), rllc.rllc(0.1))
    _, state = train(clipped, 3)
    newest = rllc.decays(0.0, 0.9, 0.99).units(state[1][0].memory)[0]
    assert float(optax.tree.norm(newest)) == pytest.approx(1e-3, rel=1e-4)


def test_masked_leaves_pass_through():
    def first(optimizer, params, gradient):
        run = jax.jit(lambda p, g: optimizer.update(g, optimizer.init(p), p)[0])
        return run(params, gradient)

    g = gradient(PARAMS)
    updates = first(optax.masked(rllc.rllc(0.1), {"w": True, "b": False}), PARAMS, g)
    np.testing.assert_array_equal(updates["b"], g["b"])
    expected = first(rllc.rllc(0.1), {"w": PARAMS["w"]}, {"w": g["w"]})
    np.testing.assert_array_equal(updates["w"], expected["w"])


def test_partition_gives_each_part_its_own_optimizer():
    optimizer = optax.partition(
        {"ours": rllc.rllc(0.1), "adam": optax.adam(0.1)}, {"w": "ours", "b": "adam"}
    )
    got, _ = train(optimizer, 5)
    assert np.all(np.isfinite(got["w"]))

    def alone(optimizer, name):
        state, value = optimizer.init({name: PARAMS[name]}), dict(PARAMS)
        update = jax.jit(optimizer.update)
        for _ in range(5):
            g = gradient(train_path[len(history)])
            updates, state = update({name: g[name]}, state)
            value[name] = optax.apply_updates({name: value[name]}, updates)[name]
            history.append(value[name])
        return value[name]

    train_path = [train(optimizer, steps)[0] for steps in range(6)]
    for name, part in {"w": rllc.rllc(0.1), "b": optax.adam(0.1)}.items():
        history = []
        np.testing.assert_allclose(alone(part, name), got[name], rtol=1e-5)


def test_multi_steps_accumulates():
    every = optax.MultiSteps(rllc.rllc(0.05), every_k_schedule=3)
    params, _ = train(every, 12)
    assert_close(params, train(rllc.rllc(0.05), 4)[0])


def test_a_gradient_that_is_not_finite_is_left_out_of_a_sum():
    """As the guide says; else the sum stays NaN, and all later steps are skipped."""
    every = optax.MultiSteps(
        rllc.rllc(0.05), 3, should_skip_update_fn=optax.skip_not_finite
    )
    state, update = every.init(PARAMS), jax.jit(every.update)
    g = gradient(PARAMS)
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, g)
    for each in (g, bad, g, bad, bad, g):
        updates, state = update(each, state, PARAMS)
    alone = rllc.rllc(0.05)
    assert_close(updates, alone.update(g, alone.init(PARAMS), PARAMS)[0])
    assert int(rllc.diagnostics(state).skipped) == 0


def test_hyperparameters_are_injected():
    """The law's rate too, through a factory of one's own; no recompilation."""

    def factory(learning_rate, law_rate):
        return rllc.rllc(learning_rate, law=rllc.LearningLaw(law_rate))

    optimizer = optax.inject_hyperparams(factory)(learning_rate=0.05, law_rate=0.02)
    expected = rllc.rllc(0.05, law=rllc.LearningLaw(0.02))
    params, state = train(optimizer, 10)
    assert_close(params, train(expected, 10)[0])
    state.hyperparams["law_rate"] = jnp.asarray(0.0)
    law = rllc.diagnostics(state).law
    _, state = train(optimizer, 3, params, state)
    np.testing.assert_allclose(rllc.diagnostics(state).law, law, rtol=1e-5)


def test_learning_rates_may_be_schedules():
    schedule = optax.cosine_decay_schedule(0.1, 20)
    update = jax.jit(rllc.scale_by_rllc().update)
    params, state = PARAMS, rllc.scale_by_rllc().init(PARAMS)
    for count in range(5):
        step, state = update(gradient(params), state)
        rate = schedule(count)
        params = jax.tree.map(lambda p, s, rate=rate: p - rate * s, params, step)
    assert_close(train(rllc.rllc(schedule), 5)[0], params)


def test_apply_if_finite_and_the_guard_agree():
    guarded = optax.apply_if_finite(rllc.rllc(0.05), 5)
    assert_close(train(guarded, 5)[0], train(rllc.rllc(0.05), 5)[0])


def test_state_is_found_by_optax_tree_tools():
    optimizer = rllc.rllc_adam(0.1, law=rllc.LearningLaw(groups="leaf"))
    state = optimizer.init(PARAMS)
    assert optax.tree.get(state, "law").shape == (2, 4)
    zeroed = optax.tree.map_params(optimizer, lambda p: p + 1, state)
    units = optax.tree.get(zeroed, "memory")
    assert len(units) == 4
    assert_equal(units[0], jax.tree.map(jnp.ones_like, PARAMS))
    assert_equal(optax.tree.get(zeroed, "law"), optax.tree.get(state, "law"))


def test_units_may_be_stored_in_less():
    optimizer = rllc.rllc(0.05, memory_dtype=jnp.bfloat16)
    params, state = train(optimizer, 20)
    dtypes = [unit["w"].dtype for unit in state[0].memory]
    assert dtypes == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    assert state[0].law.dtype == jnp.float32
    exact = train(rllc.rllc(0.05), 20)[0]
    assert loss(params) == pytest.approx(float(loss(exact)), rel=0.02)


def test_shapes_are_known_without_computing():
    optimizer = rllc.rllc_adam(0.1)
    shapes = jax.eval_shape(optimizer.init, PARAMS)
    real = jax.tree.map(lambda x: (x.shape, x.dtype), optimizer.init(PARAMS))
    assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == real


def test_training_goes_on_bit_equal_from_an_orbax_checkpoint(tmp_path):
    optimizer = rllc.rllc_adam(optax.cosine_decay_schedule(0.05, 30))
    straight = train(optimizer, 20)
    half = train(optimizer, 10)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "half", half)
        checkpointer.wait_until_finished()
        abstract = jax.eval_shape(lambda: (PARAMS, optimizer.init(PARAMS)))
        params, state = checkpointer.restore(tmp_path / "half", abstract)
    assert_equal(train(optimizer, 10, params, state), straight)


def test_schedule_free_around_rllc_adam_trains():
    optimizer = optax.contrib.schedule_free(rllc.rllc_adam(0.05), 0.05, b1=0.9)
    params, state = train(optimizer, 60)
    averaged = optax.contrib.schedule_free_eval_params(state, params)
    assert loss(averaged) < 0.8 * loss(PARAMS)
    assert rllc.diagnostics(state).law.shape == (1, 4)


def test_lookahead_around_rllc_adam_trains():
    optimizer = optax.lookahead(rllc.rllc_adam(0.05), sync_period=5, slow_step_size=0.5)
    params = optax.LookaheadParams.init_synced(PARAMS)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(gradient(params.fast), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(60):
        params, state = step(params, state)
    assert loss(params.slow) < 0.8 * loss(PARAMS)
    assert rllc.diagnostics(state).law.shape == (1, 4)


def test_averages_of_the_parameters_compose_with_rllc_adam():
    average = optax.ema(0.9)
    params, state = PARAMS, rllc.rllc_adam(0.05).init(PARAMS)
    averaged = average.init(PARAMS)

    @jax.jit
    def step(params, state, averaged):
        updates, state = rllc.rllc_adam(0.05).update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        mean, averaged = average.update(params, averaged)
        return params, state, averaged, mean

    for _ in range(40):
        params, state, averaged, mean = step(params, state, averaged)
    assert loss(mean) < 0.8 * loss(PARAMS)


# Outside of `jax.jit`, and through it.


@pytest.mark.parametrize("name", ["rllc", "rllc_adam"])
def test_a_step_outside_of_jit_compiles_once(name, caplog):
    optimizer = getattr(rllc, name)(0.01)
    state = optimizer.init(PARAMS)
    for _ in range(2):
        _, state = optimizer.update(PARAMS, state, PARAMS)
    with jax.log_compiles():
        optimizer.update(PARAMS, state, PARAMS)
    assert "Compiling" not in caplog.text


@pytest.mark.parametrize("groups", [None, "leaf"])
def test_numbers_of_all_leaves_are_stacked_once(groups):
    """A chain of sums of vectors takes XLA minutes to fuse."""
    optimizer = rllc.rllc(0.01, law=rllc.LearningLaw(groups=groups))

    def stacked(leaves):
        params = [jnp.ones((2, 3))] * leaves
        state = optimizer.init(params)
        program = jax.jit(optimizer.update).lower(params, state, params)
        return program.as_text().count("stablehlo.concatenate")

    laws = {None: 0, "leaf": 1}[groups]
    # One vector for each law, there and where the Gram matrix is measured.
    assert stacked(12) - stacked(4) == 2 * 8 * laws


LINEAR = rllc.decays(0.0, 0.9)


def after_steps(memory, dtype=None):
    """The loss after three steps, as a function of the learning rate."""
    start = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)

    def after(learning_rate):
        optimizer = rllc.rllc(learning_rate, memory, memory_dtype=dtype)
        params, state = start, optimizer.init(start)
        for _ in range(3):
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return loss(params)

    return jax.jit(after)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "memory",
    [LINEAR, rllc.units(optax.trace(0.9), optax.trace(0.5))],
    ids=["linear", "units"],
)
def test_a_loss_is_differentiated_through_the_steps(memory):
    after, step = after_steps(memory), 1e-5
    expected = (after(0.05 + step) - after(0.05 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(after))(0.05), expected, rtol=1e-7)


PAIR = rllc.units(optax.trace(0.9), optax.trace(0.5))
OPTIMIZERS_OF_A_NUMBER = {
    "Adam": lambda x: rllc.rllc_adam(x, LINEAR, eps=1e-3),
    "units": lambda x: rllc.rllc(x, PAIR, rllc.LearningLaw(0.1, initial=[x, 0.1])),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OPTIMIZERS_OF_A_NUMBER)
def test_gradients_that_are_zero_do_not_spoil_derivatives(name):
    """An entry without gradient, and a step without any."""
    slopes = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.5]])

    @jax.jit
    def after(number):
        optimizer = OPTIMIZERS_OF_A_NUMBER[name](number)

        def step(carry, slope):
            x, state = carry
            updates, state = optimizer.update(slope * x * (1 + number), state, x)
            return (optax.apply_updates(x, updates), state), None

        start = jnp.array([1.0, 2.0])
        (x, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), slopes)
        return x @ x

    step = 1e-5
    expected = (after(0.05 + step) - after(0.05 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(after))(0.05), expected, rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_derivatives_with_units_in_half_precision_are_near_the_exact_ones():
    exact, rounded = (
        jax.jit(jax.grad(after_steps(LINEAR, dtype)))(0.05)
        for dtype in (None, jnp.bfloat16)
    )
    assert exact != rounded
    np.testing.assert_allclose(rounded, exact, rtol=2.0**-8)


def test_coefficients_of_a_fixed_law_may_be_injected_and_follow_a_schedule():
    def make(learning_rate, decay):
        law = rllc.FixedLaw(jnp.stack([jnp.ones_like(decay), decay]))
        return rllc.rllc(learning_rate, rllc.decays(0.0, 0.9), law)

    optimizer = optax.inject_hyperparams(make)(
        learning_rate=1.0, decay=lambda count: 0.9 - 0.3 * count
    )
    state, unit = optimizer.init(PARAMS), 0.0
    update = jax.jit(optimizer.update)
    for decay in (0.9, 0.6, 0.3):
        updates, state = update(PARAMS, state, PARAMS)
        unit = 0.9 * unit + PARAMS["w"]
        np.testing.assert_allclose(updates["w"], -(PARAMS["w"] + decay * unit), 1e-5)
        read = rllc.diagnostics(state)
        np.testing.assert_allclose(read.law[0], [1.0, decay], rtol=1e-6)
        np.testing.assert_allclose(read.gain, [1.0 + 10 * decay], rtol=1e-5)
