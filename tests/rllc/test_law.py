"""Law: the correction is the mathematics of it, in every basis and at every scale."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import rllc

pytestmark = pytest.mark.usefixtures("x64")


def compiled(optimizer):
    """Both functions as one program each, instead of one for every operation."""
    return jax.jit(optimizer.init), jax.jit(optimizer.update)


@functools.cache
def quadratic(size=6, seed=0):
    """A loss with gradients that depend on where one is, and a start."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    hessian, target = (
        jnp.asarray(root @ root.T / size),
        jnp.asarray(rng.normal(size=size)),
    )

    def loss(x):
        return 0.5 * (x - target) @ hessian @ (x - target) + 0.1 * jnp.sum(jnp.cos(x))

    return loss, jnp.asarray(rng.normal(size=size))


def trajectory(optimizer, loss, start, steps, seen=lambda state: None):
    """Parameters, and what is seen of the states, after every step."""

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(jax.grad(loss)(x), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), (x, seen(state))

    @jax.jit
    def run(start):
        return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]

    return run(start)


def changed_basis(memory, change):
    return rllc.LinearMemory(
        np.linalg.solve(change, memory.propagator @ change), change.T @ memory.input
    )


def run_in_basis(memory, initial, change, steps, **law):
    loss, start = quadratic()
    law = rllc.LearningLaw(initial=np.linalg.solve(change, initial), **law)
    optimizer = rllc.rllc(0.02, memory=changed_basis(memory, change), law=law)
    return trajectory(optimizer, loss, start, steps)[0]


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    conserve_gain=st.booleans(),
    trust_region=st.sampled_from([None, 0.02]),
)
def test_the_ridge_is_basis_invariant_from_the_first_step(
    seed, conserve_gain, trust_region
):
    memory = rllc.decays(0.0, 0.5, 0.9)
    change = np.random.default_rng(seed).normal(size=(3, 3)) + 2 * np.eye(3)
    # Rounding grows steeply with its condition number: up to 7e-8 at 300, and at 10⁴
    # the memory that it makes is rejected as uncontrollable.
    assume(np.linalg.cond(change) < 100)
    settings = {
        "rate": 0.05,
        "conserve_gain": conserve_gain,
        "trust_region": trust_region,
    }
    initial = np.array([0.3, 0.2, 0.5])
    plain = run_in_basis(memory, initial, np.eye(3), 40, **settings)
    changed = run_in_basis(memory, initial, change, 40, **settings)
    np.testing.assert_allclose(changed, plain, rtol=1e-9, atol=1e-11)


def test_the_pseudo_inverse_is_basis_invariant_only_at_full_rank():
    """Its law path splits in the first k steps and not after them."""
    memory, initial = rllc.decays(0.0, 0.5), np.array([0.5, 0.5])
    change = np.array([[1.0, 3.0], [0.2, 1.0]])
    settings = {"conserve_gain": False, "solver": rllc.PseudoInverse()}

    def late(count):
        return jnp.where(count < 3, 0.0, 0.02)

    def run(basis, rate):
        return run_in_basis(memory, initial, basis, 30, rate=rate, **settings)

    np.testing.assert_allclose(run(change, late), run(np.eye(2), late), rtol=1e-8)
    assert not np.allclose(run(change, 0.02), run(np.eye(2), 0.02), rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_correction_is_the_preconditioned_hypergradient(seed):
    """−c₁ Mᵀg is the derivative of the loss through the step by the law."""
    loss, start = quadratic(seed=seed)
    memory = rllc.decays(0.0, 0.6, 0.9)
    learning_rate, ridge = 0.02, 1e-3
    law = rllc.LearningLaw(0.0, initial=[0.2, 0.1, 0.3], solver=rllc.Ridge(ridge))
    init, update = compiled(rllc.scale_by_rllc(memory, law))
    slope = jax.jit(jax.grad(loss))
    x, state = start, init(start)
    for _ in range(5):
        step, state = update(slope(x), state)
        previous, x = x, x - learning_rate * step
    units = np.stack(memory.units(state.memory), axis=-1)

    @jax.jit
    @jax.grad
    def slope_of_law(coefficients):
        return loss(previous - learning_rate * units @ coefficients)

    gradient = np.asarray(slope(x))
    hypergradient = slope_of_law(state.law[0])
    np.testing.assert_allclose(
        hypergradient, -learning_rate * units.T @ gradient, rtol=1e-9
    )

    corrected = rllc.scale_by_rllc(
        memory,
        rllc.LearningLaw(
            1.0, conserve_gain=False, solver=law.solver, initial=law.initial
        ),
    )
    _, new = jax.jit(corrected.update)(gradient, state)
    spectrum, gram = memory.spectrum, units.T @ units
    trace = np.trace(np.linalg.solve(spectrum.gramian, gram))
    metric = gram + ridge * (spectrum.resonance * gradient @ gradient + trace) * (
        spectrum.gramian
    )
    expected = -np.linalg.solve(metric, hypergradient) / learning_rate
    np.testing.assert_allclose(new.law[0] - state.law[0], expected, rtol=1e-7)


def test_the_pseudo_inverse_correction_is_numpys():
    loss, start = quadratic()
    memory = rllc.decays(0.0, 0.6)
    law = rllc.LearningLaw(1.0, conserve_gain=False, solver=rllc.PseudoInverse())
    init, update = compiled(rllc.scale_by_rllc(memory, law))
    slope = jax.jit(jax.grad(loss))
    x, state = start, init(start)
    for _ in range(4):
        units = np.stack(memory.units(state.memory), axis=-1)
        gradient = slope(x)
        before = state.law[0]
        step, state = update(gradient, state)
        expected = np.linalg.pinv(units, rcond=1e-7) @ gradient
        np.testing.assert_allclose(state.law[0] - before, expected, rtol=1e-6)
        x = x - 0.01 * step


@pytest.mark.parametrize("exponent", [-20, 20])
@pytest.mark.parametrize(
    "memory",
    [
        rllc.decays(0.0, 0.9, 0.99),
        rllc.complex_block(0.9, 0.3),
        rllc.units(optax.scale_by_adam(eps=0.0), optax.scale_by_lion()),
    ],
    ids=["decays", "complex", "units"],
)
def test_scaling_the_loss_leaves_the_laws_path_bit_equal(memory, exponent):
    rng = np.random.default_rng(0)
    gradients = jnp.asarray(rng.normal(size=(50, 20)) + 0.3, jnp.float32)
    optimizer = rllc.scale_by_rllc(memory, rllc.LearningLaw(0.05))

    def laws(gradients):
        def step(state, gradient):
            _, state = optimizer.update(gradient, state)
            return state, state.law

        return jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1]

    plain, scaled = laws(gradients), laws(gradients * 2.0**exponent)
    assert np.ptp(plain, axis=0).max() > 1e-3
    np.testing.assert_array_equal(scaled, plain)


def test_the_recursive_gram_matrix_is_the_units_own():
    loss, start = quadratic()
    memory = rllc.direct_sum(rllc.decays(0.0, 0.9), rllc.complex_block(0.8, 0.5))
    for refresh in (5, 10**6):
        law = rllc.LearningLaw(0.01, refresh=refresh)
        init, update = compiled(rllc.rllc(0.01, memory, law))
        slope = jax.jit(jax.grad(loss))
        x, state = start, init(start)
        for _ in range(12):
            updates, state = update(slope(x), state)
            x = optax.apply_updates(x, updates)
        units = np.stack(memory.units(state[0].memory), axis=-1)
        units = units @ memory.spectrum.whitening
        np.testing.assert_allclose(state[0].gram[0], units.T @ units, rtol=1e-10)


def test_a_refresh_repairs_a_wrong_gram_matrix():
    memory = rllc.decays(0.0, 0.9)
    law = rllc.LearningLaw(0.01, refresh=3)
    init, update = compiled(rllc.scale_by_rllc(memory, law))
    gradients = np.random.default_rng(0).normal(size=(6, 4))
    state = init(gradients[0])
    _, state = update(gradients[0], state)
    state = state._replace(gram=state.gram + 100 * np.eye(2))
    for gradient in gradients[1:]:
        _, state = update(gradient, state)
    units = np.stack(state.memory, axis=-1) @ memory.spectrum.whitening
    np.testing.assert_allclose(state.gram[0], units.T @ units, rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_conserved_gain_is_conserved_for_ten_thousand_steps(dtype):
    memory = rllc.decays(0.0, 0.9, 0.99)
    optimizer = rllc.scale_by_rllc(memory, rllc.LearningLaw(0.05))
    mean = jax.random.normal(jax.random.key(0), (50,), dtype)

    def step(state, key):
        gradient = mean + jax.random.normal(key, mean.shape, dtype)
        _, state = optimizer.update(gradient, state)
        return state, (state.law[0], state.gain[0])

    keys = jax.random.split(jax.random.key(1), 10_000)
    _, (laws, gains) = jax.lax.scan(step, optimizer.init(mean), keys)
    rounding = 16 * np.finfo(dtype).eps * np.abs(laws * memory.spectrum.gain).sum(-1)
    assert np.ptp(laws[:, 1]) > 0.1
    assert np.all(np.abs(gains - 10.0) <= rounding)


def test_without_conservation_the_gain_moves():
    loss, start = quadratic()
    law = rllc.LearningLaw(0.05, conserve_gain=False)
    optimizer = rllc.rllc(0.02, law=law)
    _, path = trajectory(optimizer, loss, start, 20, rllc.diagnostics)
    assert np.abs(path.gain[-1, 0] - 10.0) > 0.1


def test_laws_of_units_return_to_where_they_started():
    """Without gradients the law of units decays to the initial one at its own rate."""
    memory = rllc.units(optax.scale_by_adam(), optax.identity())
    gradients = np.random.default_rng(0).normal(size=(30, 8)) + 0.5
    gradients = jnp.concatenate([jnp.asarray(gradients), jnp.zeros((40, 8))])

    def laws(conserve_gain):
        law = rllc.LearningLaw(0.05, conserve_gain=conserve_gain)
        optimizer = rllc.scale_by_rllc(memory, law)

        def step(state, gradient):
            _, state = optimizer.update(gradient, state)
            return state, state.law[0]

        return jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1]

    moved = laws(True) - memory.initial_law
    assert np.abs(moved[29]).max() > 1e-2
    np.testing.assert_allclose(moved[69], moved[31] * 0.95**38, rtol=1e-9)
    free = laws(False) - memory.initial_law
    np.testing.assert_allclose(free[69], free[31], rtol=1e-9)


def test_corrections_of_units_do_not_depend_on_the_units_scales():
    def direction(scale):
        memory = rllc.units(optax.trace(0.9), optax.scale(scale))
        law = rllc.LearningLaw(0.05, initial=[0.1, 0.5 / scale])
        init, update = compiled(rllc.scale_by_rllc(memory, law))
        gradients = np.random.default_rng(0).normal(size=(20, 8))
        state = init(gradients[0])
        for gradient in gradients:
            updates, state = update(gradient, state)
        return updates

    np.testing.assert_allclose(direction(64.0), direction(1.0), rtol=1e-9)


def test_the_trust_region_bounds_the_change_of_the_step():
    loss, start = quadratic()
    memory = rllc.decays(0.0, 0.9)
    law = rllc.LearningLaw(1.0, initial=[0.5, 0.5], trust_region=0.01)
    init, update = compiled(rllc.scale_by_rllc(memory, law))
    slope = jax.jit(jax.grad(loss))
    x, state, changes = start, init(start), []
    for _ in range(20):
        units = np.stack(memory.units(state.memory), axis=-1)
        before = state.law[0]
        step, state = update(slope(x), state)
        x = x - 0.01 * step
        length = np.linalg.norm(units @ before)
        changes.append(np.linalg.norm(units @ (state.law[0] - before)) / (length or 1))
    assert max(changes) <= 0.01 * (1 + 1e-9)
    assert max(changes) >= 0.01 * (1 - 1e-6)


def test_every_leaf_and_label_has_the_law_of_its_own_problem():
    """Laws of groups are those of separate optimizers on the parts."""
    rng = np.random.default_rng(0)
    gradients = [
        {
            "a": rng.normal(size=4),
            "b": rng.normal(size=(2, 3)),
        }
        for _ in range(15)
    ]
    memory = rllc.decays(0.0, 0.9)

    def run(groups, gradients):
        law = rllc.LearningLaw(0.05, groups=groups)
        init, update = compiled(rllc.scale_by_rllc(memory, law))
        state = init(gradients[0])
        for gradient in gradients:
            updates, state = update(gradient, state)
        return updates, state.law

    alone = [run(None, [{name: g[name]} for g in gradients]) for name in "ab"]
    by_leaf = run("leaf", gradients)
    by_label = run({"a": "z", "b": "y"}, gradients)
    by_function = run(lambda tree: {name: name for name in tree}, gradients)
    np.testing.assert_allclose(by_leaf[1], np.concatenate([law for _, law in alone]))
    np.testing.assert_allclose(by_function[1], by_leaf[1])
    np.testing.assert_allclose(by_label[1], by_leaf[1][::-1])
    for updates, _ in (by_leaf, by_label):
        np.testing.assert_allclose(updates["a"], alone[0][0]["a"])
        np.testing.assert_allclose(updates["b"], alone[1][0]["b"])


def test_the_rate_may_be_a_schedule():
    loss, start = quadratic()
    constant = rllc.rllc(0.02, law=rllc.LearningLaw(0.01))
    scheduled = rllc.rllc(0.02, law=rllc.LearningLaw(optax.constant_schedule(0.01)))
    np.testing.assert_array_equal(
        trajectory(scheduled, loss, start, 10)[0],
        trajectory(constant, loss, start, 10)[0],
    )
    off = rllc.rllc(0.02, law=rllc.LearningLaw(lambda count: 0.01 * (count < 0)))
    _, path = trajectory(off, loss, start, 10, rllc.diagnostics)
    initial = rllc.decays(0.0, 0.9, 0.99).initial_law
    np.testing.assert_allclose(path.law[-1, 0], initial, rtol=1e-12)


@pytest.mark.parametrize("large_batch", [False, True])
def test_the_large_batch_law_bears_more_curvature_at_the_same_gain(large_batch):
    memory, large = rllc.decays(0.0, 0.9, 0.99), rllc.large_batch_law().initial
    law = large if large_batch else memory.initial_law
    assert law @ memory.spectrum.gain == pytest.approx(10, rel=1e-12)
    bound = 2 / np.sum(law / (1 + np.diag(memory.propagator)))
    assert bound == pytest.approx(1.50 if large_batch else 0.88, abs=0.01)

    def largest(relative):
        """How far from its minimum a loss of curvature 1 ends."""
        optimizer = rllc.rllc(relative * bound, law=rllc.FixedLaw(law))
        path = trajectory(optimizer, lambda x: 0.5 * x @ x, jnp.ones(1), 2000)[0]
        return np.abs(path[-10:]).max()

    assert largest(0.99) < 1e-3
    assert largest(1.01) > 1e3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: rllc.LearningLaw(-0.1), "rate: expected a finite number, at least 0"),
        (
            lambda: rllc.LearningLaw(np.nan),
            "rate: expected a finite number, at least 0",
        ),
        (
            lambda: rllc.LearningLaw("fast"),
            "rate: expected a finite number, at least 0, got 'fast'",
        ),
        (
            lambda: rllc.LearningLaw(trust_region=0.0),
            "trust_region: expected a finite number above 0",
        ),
        (lambda: rllc.LearningLaw(refresh=0), "refresh: expected an integer"),
        (lambda: rllc.LearningLaw(initial=[np.inf]), "initial: expected finite"),
        (lambda: rllc.LearningLaw(initial=3.0), "initial: expected shape"),
        (lambda: rllc.FixedLaw([[[1.0]]]), "coefficients: expected shape"),
        (lambda: rllc.Ridge(0.0), "ridge: expected a finite number above 0"),
        (
            lambda: rllc.PseudoInverse(-1.0),
            "rcond: expected a finite number, at least 0",
        ),
        (
            lambda: rllc.scale_by_rllc(rllc.decays(0.9), rllc.FixedLaw([1.0, 2.0])),
            "coefficients: expected one coefficient for each of the memory's 1",
        ),
        (
            lambda: rllc.scale_by_rllc(
                rllc.decays(0.0, 0.9), rllc.LearningLaw(initial=[1.0])
            ),
            "initial: expected one coefficient for each of the memory's 2",
        ),
        (
            lambda: rllc.scale_by_rllc(
                rllc.decays(0.9),
                rllc.LearningLaw(initial=[[1.0], [2.0], [3.0]], groups="leaf"),
            ).init([jnp.ones(2), jnp.ones(2)]),
            "one row for each of the 2 group",
        ),
        (
            lambda: rllc.scale_by_rllc(
                rllc.decays(0.9), rllc.LearningLaw(groups={"a": "x"})
            ).init({"b": jnp.ones(2)}),
            "groups: expected None, 'leaf', or labels",
        ),
    ],
)
def test_bad_laws_are_rejected_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_laws_and_solvers_of_the_wrong_kind_are_rejected():
    with pytest.raises(TypeError, match="law: expected a LearningLaw or a FixedLaw"):
        rllc.scale_by_rllc(law=0.1)
    with pytest.raises(TypeError, match="solver: expected a Ridge or a PseudoInverse"):
        rllc.LearningLaw(solver="ridge")


def test_gradients_of_another_shape_are_rejected_with_their_path():
    optimizer = rllc.rllc(0.1)
    state = optimizer.init({"w": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"got \['w'\] of shape \(4,\)"):
        optimizer.update({"w": jnp.ones(4)}, state)
    with pytest.raises(ValueError, match="updates: expected the structure"):
        optimizer.update({"w": jnp.ones(3), "x": jnp.ones(1)}, state)
