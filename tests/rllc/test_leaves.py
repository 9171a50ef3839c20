"""What users bring as parameters: numbers, integers, complex and empty trees."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc

OPTIMIZERS = {
    "rllc": rllc.rllc(0.1, weight_decay=0.01),
    "bfloat16": rllc.rllc(0.1, memory_dtype=jnp.bfloat16),
    "rllc_adam": rllc.rllc_adam(optax.constant_schedule(0.1), weight_decay=0.01),
    "fixed": rllc.nesterov(0.1),
    "units": rllc.rllc(0.1, rllc.units(optax.scale_by_adam(), optax.trace(0.9))),
    "pinv": rllc.rllc(
        0.1, law=rllc.LearningLaw(solver=rllc.PseudoInverse(), conserve_gain=False)
    ),
    "leaf": rllc.rllc(0.1, law=rllc.LearningLaw(groups="leaf", trust_region=0.1)),
}
each = pytest.mark.parametrize("name", OPTIMIZERS)


def steps(optimizer, params, gradient, count=3, jit=True):
    state = optimizer.init(params)
    update = jax.jit(optimizer.update) if jit else optimizer.update
    for _ in range(count):
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, jax.typeof(x).weak_type), tree)


@each
def test_numbers_of_python_and_numpy_are_float32(name):
    optimizer = OPTIMIZERS[name]
    params = {"a": 1.0, "b": np.float64(2.0), "c": np.ones(3), "d": 3}
    gradient = {"a": 0.5, "b": np.float64(1.0), "c": np.full(3, 0.2), "d": 0}
    floating = {key: jnp.asarray(params[key], jnp.float32) for key in ("a", "b", "c")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got, _ = steps(optimizer, params, gradient, jit=False)
    del gradient["d"]
    gradient = {key: jnp.asarray(g, jnp.float32) for key, g in gradient.items()}
    expected, _ = steps(optimizer, floating, gradient)
    assert int(got.pop("d")) == 3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected
    )


@each
def test_leaves_that_are_not_floating_point_are_left_alone(name):
    optimizer = OPTIMIZERS[name]
    params = {"w": jnp.ones(3), "n": jnp.arange(4), "b": jnp.array([True, False])}
    gradient = jax.grad(lambda p: jnp.sum(p["w"] ** 2), allow_int=True)(params)
    expected = steps(optimizer, {"w": params["w"]}, {"w": gradient["w"]})[0]["w"]
    zeros = jax.tree.map(jnp.zeros_like, params)
    for others in (
        {"n": gradient["n"], "b": gradient["b"]},
        {"n": zeros["n"], "b": zeros["b"]},
        {"n": zeros["n"].astype(float), "b": zeros["b"].astype(float)},
        {"n": None, "b": None},
    ):
        state = optimizer.init(params)
        value = params
        for _ in range(3):
            updates, state = optimizer.update(
                others | {"w": gradient["w"]}, state, value
            )
            if others["n"] is None:
                updates = {"w": updates["w"], "n": 0, "b": False}
            value = optax.apply_updates(value, updates)
        np.testing.assert_allclose(value["w"], expected, rtol=1e-5)
        for leaf in ("n", "b"):
            np.testing.assert_array_equal(value[leaf], params[leaf])
            assert value[leaf].dtype == params[leaf].dtype


@each
@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_numbers_of_eight_bits_are_computed_with_in_float32(name, dtype):
    optimizer, updates = OPTIMIZERS[name], {}
    for each in (dtype, jnp.float32):
        leaf = jnp.array([1.0, -0.5, 2.0], each)
        params = {"w": leaf, "b": jnp.ones(2)}
        state = optimizer.init(params)
        for _ in range(2):
            updates[each], state = optimizer.update(params, state, params)
        assert updates[each]["w"].dtype == each
    got, expected = (updates[d]["w"].astype(jnp.float32) for d in (dtype, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=float(jnp.finfo(dtype).eps))


@each
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_shapes_are_enough_for_a_state(name, dtype):
    params = {
        "w": jax.ShapeDtypeStruct((3,), dtype),
        "n": jax.ShapeDtypeStruct((), jnp.int32),
    }
    optimizer = OPTIMIZERS[name]
    expected = jax.eval_shape(optimizer.init, params)
    got = jax.eval_shape(lambda: optimizer.init(params))
    assert jax.tree.map(str, got) == jax.tree.map(str, expected)


@each
@pytest.mark.parametrize(
    ("leaf", "kind"),
    [(jax.nn.relu, "custom_jvp"), ("mean", "str"), (steps, "function")],
)
def test_a_leaf_that_is_no_number_is_named(name, leaf, kind):
    with pytest.raises(TypeError, match=rf"params: .* got {kind}.* at \['f'\]\[1\]; t"):
        OPTIMIZERS[name].init({"w": jnp.ones(3), "f": [2.0, leaf]})


@each
@pytest.mark.parametrize("empty", [{}, {"a": None}, [], {"a": jnp.arange(3)}])
def test_trees_without_anything_to_train_are_harmless(name, empty):
    optimizer = OPTIMIZERS[name]
    updates, state = optimizer.update(empty, optimizer.init(empty), empty)
    assert jax.tree.structure(updates) == jax.tree.structure(empty)
    assert int(rllc.diagnostics(state).skipped) == 0


@each
def test_a_label_of_a_partition_may_have_no_leaves(name):
    def optimizer(labels):
        return optax.partition(
            {"ours": OPTIMIZERS[name], "sgd": optax.sgd(0.1)}, labels
        )

    params = {"a": jnp.ones(3), "b": None}
    for label in ("ours", "sgd"):
        got, _ = steps(optimizer({"a": label, "b": "sgd"}), params, params)
        alone = OPTIMIZERS[name] if label == "ours" else optax.sgd(0.1)
        expected, _ = steps(alone, params, params)
        np.testing.assert_allclose(got["a"], expected["a"], rtol=1e-5)


@each
def test_complex_parameters_keep_their_imaginary_part(name):
    z = jnp.array([1.0 + 2.0j, -1.0j])
    g = jnp.array([1.0j, 2.0 - 1.0j])
    got, _ = steps(OPTIMIZERS[name], z, g)
    assert got.dtype == jnp.complex64
    assert jnp.all(jnp.abs(jnp.imag(got - z)) > 1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_a_real_memory_dtype_stores_complex_units_of_that_precision(dtype):
    z, g = jnp.array([1.0 + 2.0j, -1.0j]), jnp.array([1.0j, 2.0 - 1.0j])
    for memory in (rllc.decays(0.0, 0.9), rllc.units(optax.trace(0.9))):
        got = steps(rllc.rllc(0.1, memory, memory_dtype=dtype), z, g)[0]
        expected = steps(rllc.rllc(0.1, memory), z, g)[0]
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@each
def test_gradients_and_units_are_complex_where_the_parameter_is(name):
    optimizer, z = OPTIMIZERS[name], jnp.array([1.0 + 2.0j, -1.0j])
    for gradient in (jnp.array([1.0, 2.0]), np.array([0.5j, 1.0])):
        state = optimizer.init(z)
        for g in (jnp.array([1.0j, 2.0]), gradient):
            got, state = optimizer.update(g, state, z)
        after = optimizer.init(z)
        for g in (jnp.array([1.0j, 2.0]), gradient.astype(np.complex64)):
            expected, after = optimizer.update(g, after, z)
        np.testing.assert_array_equal(got, expected)
    params = {"w": jnp.ones(2)}
    state = optimizer.init(params)
    with pytest.raises(ValueError, match=r"updates: .* real units of \['w'\], got com"):
        optimizer.update({"w": z}, state, params)


def test_real_units_of_a_complex_parameter_are_rejected():
    class RealMemory:
        size, initial_law = 1, np.ones(1)

        def init(self, params, dtype=None):
            return (jax.tree.map(lambda p: jnp.zeros(p.shape), params),)

        def units(self, state):
            return state

        def update(self, gradient, state, params=None, **extra_args):
            return (gradient,)

    with pytest.raises(ValueError, match=r"complex units for .* \['z'\], got float32"):
        rllc.rllc(0.1, RealMemory()).init({"z": jnp.ones(2, jnp.complex64)})


@each
@pytest.mark.parametrize("x64", [False, True])
def test_a_state_keeps_its_types_in_scan(name, x64):
    """Parameters in bfloat16, gradients in float32, hyperparameters of NumPy."""
    with jax.enable_x64(x64):
        optimizer = OPTIMIZERS[name]
        params = {"w": jnp.ones(3, jnp.bfloat16), "s": 1.0}
        state = optimizer.init(params)

        def step(carry, gradient):
            updates, state = optimizer.update({"w": gradient, "s": 1.0}, carry, params)
            return state, updates["w"]

        gradients = jnp.ones((4, 3), jnp.float32)
        after, updates = jax.lax.scan(step, state, gradients)
        assert types(after) == types(state)
        assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves(state))
        assert updates.dtype == jnp.float32


@pytest.mark.parametrize("scalar", [np.float32, np.float64, jnp.float32])
def test_hyperparameters_of_any_kind_leave_the_states_types(scalar):
    for x64 in (False, True):
        with jax.enable_x64(x64):
            optimizer = rllc.scale_by_rllc_adam(
                rllc.decays(0.0, 0.9),
                rllc.LearningLaw(scalar(0.01), trust_region=scalar(0.5)),
                b2=scalar(0.99),
                eps=scalar(1e-8),
            )
            params = jnp.ones(3, jnp.float32)
            state = optimizer.init(params)
            after = optimizer.update(params, state)[1]
            assert types(after) == types(state)


STRICT = {
    "jax_debug_nans": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
}
LEAKS = {"jax_check_tracer_leaks": True}  # slow, whatever the dtypes


@each
@pytest.mark.parametrize(
    ("flags", "dtypes"),
    [
        (STRICT, (jnp.float32, jnp.bfloat16, jnp.complex64)),
        (LEAKS, (jnp.float32,)),
    ],
    ids=["strict", "leaks"],
)
def test_strict_settings_of_jax_raise_nothing(name, flags, dtypes):
    before = {flag: getattr(jax.config, flag) for flag in flags}
    try:
        for flag, value in flags.items():
            jax.config.update(flag, value)
        optimizer = OPTIMIZERS[name]
        if name == "units":  # Optax's own Adam does not pass all of them.
            optimizer = rllc.rllc(0.1, rllc.units(optax.trace(0.9), optax.identity()))
        for dtype in dtypes:
            params = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones(2, dtype)}
            state = jax.jit(optimizer.init)(params)
            rllc.diagnostics(state)
            _, state = jax.jit(optimizer.update)(params, state, params)
            rllc.diagnostics(state)
    finally:
        for flag, value in before.items():
            jax.config.update(flag, value)


@pytest.mark.parametrize("groups", [None, "leaf"])
def test_an_initial_law_may_be_traced_whatever_the_groups(groups):
    params = [jnp.ones(2), jnp.ones(3)]

    def law_of(initial):
        law = rllc.LearningLaw(initial=initial, groups=groups)
        return rllc.scale_by_rllc(rllc.decays(0.0, 0.9), law).init(params).law

    initial = jnp.array([1.0, 0.5])
    rows = 1 if groups is None else 2
    np.testing.assert_array_equal(jax.jit(law_of)(initial), [initial] * rows)
    many = jax.vmap(law_of)(jnp.stack([initial, 2 * initial]))
    assert many.shape == (2, rows, 2)
    with pytest.raises(ValueError, match="initial: expected shape"):
        jax.jit(law_of)(jnp.ones(()))


def test_a_law_is_not_changed_by_what_becomes_of_the_callers_array():
    for make in (rllc.FixedLaw, lambda c: rllc.LearningLaw(initial=c)):
        coefficients = np.array([1.0, 0.9])
        law = make(coefficients)
        coefficients[0] = 5.0
        start = law.start(rllc.decays(0.0, 0.9), 1)
        np.testing.assert_array_equal(start, [[1.0, 0.9]])


def test_adams_scaling_goes_with_a_memory_without_a_gain():
    undamped = rllc.LinearMemory([[1.0]], [1.0])
    law = rllc.LearningLaw(solver=rllc.PseudoInverse(), conserve_gain=False)
    optimizer = rllc.rllc_adam(0.1, undamped, law)
    params, state = steps(optimizer, jnp.ones(3), jnp.ones(3))
    assert np.isfinite(params).all()
    assert np.all(params < 0.5)
    assert int(rllc.diagnostics(state).skipped) == 0


def one_step_of_each_law(labels, rows):
    """Updates of parameters that are 1, by which law they were made."""
    groups = {str(place): label for place, label in enumerate(labels)}
    params = dict.fromkeys(groups, jnp.ones(1))
    law = rllc.FixedLaw(np.arange(rows)[:, None], groups)
    optimizer = rllc.scale_by_rllc(rllc.decays(0.0), law)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    return [int(updates[name][0]) for name in groups]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (range(12), list(range(12))),
        ([10, -1, 9, 10], [2, 0, 1, 2]),
        ([2.5, 10.0, 2], [1, 2, 0]),
        (["10", "9", "a"], [0, 1, 2]),
        (["a", 10, 9, "B"], [3, 0, 1, 2]),
    ],
    ids=["many", "integers", "numbers", "strings", "mixed"],
)
def test_laws_are_in_the_order_of_their_labels(labels, expected):
    assert one_step_of_each_law(labels, len(set(labels))) == expected


@pytest.mark.parametrize("kind", ["learning", "fixed"])
def test_functions_label_parameters_and_not_gradients(kind):
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2)}
    labels = {"a": "bfloat16", "b": "float32"}
    gradients = {"a": jnp.ones(2), "b": jnp.array([1.0, -1.0])}

    def after(groups):
        fixed = rllc.FixedLaw([[1.0, 0.0], [0.0, 1.0]], groups)
        law = fixed if kind == "fixed" else rllc.LearningLaw(groups=groups)
        optimizer = rllc.rllc(0.1, rllc.decays(0.0, 0.9), law)
        state, update = optimizer.init(params), jax.jit(optimizer.update)
        for _ in range(2):
            updates, state = update(gradients, state, params)
        return updates, state

    by_function = after(lambda tree: jax.tree.map(lambda x: str(x.dtype), tree))
    jax.tree.map(np.testing.assert_array_equal, by_function, after(labels))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: rllc.FixedLaw([1.0, x]).coefficients,
        lambda x: rllc.FixedLaw((x, x)).coefficients,
        lambda x: rllc.FixedLaw([[x, 0.0], [0.0, 1.0]]).coefficients,
        lambda x: rllc.LearningLaw(initial=[jnp.float32(0.5), x]).initial,
    ],
)
def test_some_numbers_of_a_law_may_be_traced(build):
    np.testing.assert_array_equal(jax.jit(build)(0.25), build(0.25))
    assert np.all(jax.jacfwd(build)(0.25) == (build(1.0) - build(0.0)))
