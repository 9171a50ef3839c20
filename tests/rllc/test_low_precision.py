"""Half precision acts as float32 does, costs the bytes it says, and copies nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc

pytestmark = pytest.mark.optimized

BFLOAT16, FLOAT16, FLOAT32 = jnp.bfloat16, jnp.float16, jnp.float32
MEMORIES = {
    "decay 0.999": rllc.decays(0.999),
    "decays": rllc.decays(0.0, 0.9, 0.99),
    "close to the limit": rllc.decays(0.92, 0.95),
    "negative decay": rllc.decays(-0.99),
    "real block": rllc.real_block(0.9, 3),
    "complex block": rllc.complex_block(0.95, 0.2, 2),
    "gradient history": rllc.gradient_history(8),
    "undamped": rllc.LinearMemory([[1.0]], [1.0]),
    "direct sum": rllc.direct_sum(rllc.decays(0.5), rllc.complex_block(0.99, 0.1)),
}


def responses(optimizer, dtype, memory_gradient=FLOAT32):
    """Mean and largest entry of the updates to a mean of −1 for a while, then 0."""
    size, steps = 16, 1200
    noise = jax.random.normal(jax.random.key(0), (steps, size))
    means = jnp.where(jnp.arange(steps) < steps // 2, -1.0, 0.0)
    gradients = (means[:, None] + 0.3 * noise).astype(memory_gradient)

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state, jnp.zeros(size, dtype))
        return state, updates.astype(jnp.float32)

    return jax.jit(
        lambda: jax.lax.scan(step, optimizer.init(jnp.zeros(size, dtype)), gradients)[1]
    )()


def assert_close_to(got, exact, tolerance):
    """Relative to the largest update in a window around each step."""
    scale = np.sqrt(np.mean(np.square(exact), axis=1))
    scale = np.maximum(scale, 0.02 * scale.max())
    error = np.sqrt(np.mean(np.square(got - exact), axis=1))
    assert np.max(error / scale) < tolerance


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16])
@pytest.mark.parametrize("name", MEMORIES)
def test_units_in_half_precision_act_as_in_float32(name, dtype):
    """Long memories too: what rounding would hold up is stored in float32."""
    memory = MEMORIES[name]
    law = rllc.FixedLaw(np.eye(memory.size)[-1])
    exact = responses(rllc.scale_by_rllc(memory, law), FLOAT32)
    stored = rllc.scale_by_rllc(memory, law, memory_dtype=dtype)
    assert_close_to(responses(stored, FLOAT32), exact, 0.05)
    assert_close_to(responses(rllc.scale_by_rllc(memory, law), dtype), exact, 0.05)


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16])
def test_complete_optimizers_in_half_precision_act_as_in_float32(dtype):
    for optimizer in (rllc.rllc, rllc.rllc_adam):
        exact = responses(optimizer(1.0), FLOAT32)
        assert_close_to(
            responses(optimizer(1.0, memory_dtype=dtype), FLOAT32), exact, 0.1
        )
        assert_close_to(responses(optimizer(1.0), dtype), exact, 0.1)


def test_the_law_of_a_unit_that_decays_slowly_is_that_of_float32():
    """Gradients of mean −1, then 0: the step must vanish after the unit's memory."""
    adam = {
        dtype: responses(
            rllc.rllc_adam(1.0, rllc.decays(0.0, 0.999), rllc.FixedLaw([0.0, 1e-3])),
            dtype,
        )
        for dtype in (FLOAT32, BFLOAT16)
    }
    assert_close_to(adam[BFLOAT16], adam[FLOAT32], 0.02)


@pytest.mark.parametrize(
    "memory",
    [rllc.decays(0.0, 0.9, 0.999), rllc.units(optax.trace(0.9), optax.trace(0.5))],
)
def test_the_pseudo_inverse_sees_no_rounding_of_parallel_units(memory):
    """After one step all units are multiples of the gradient."""
    solver = rllc.PseudoInverse()
    law = rllc.LearningLaw(0.01, conserve_gain=False, solver=solver)
    exact = responses(rllc.rllc(1.0, memory, law), FLOAT32)
    for dtype in (BFLOAT16, FLOAT16):
        stored = rllc.rllc(1.0, memory, law, memory_dtype=dtype)
        assert_close_to(responses(stored, FLOAT32), exact, 0.01)
        assert_close_to(responses(rllc.rllc(1.0, memory, law), dtype), exact, 0.01)


def test_transformations_of_units_compute_in_float32():
    """Adam's own second moment would stall at b2 = 0.999 in bfloat16."""
    memory = rllc.units(optax.scale_by_adam())
    law = rllc.FixedLaw([1.0])
    exact = responses(rllc.scale_by_rllc(memory, law), FLOAT32)
    assert_close_to(responses(rllc.scale_by_rllc(memory, law), BFLOAT16), exact, 0.02)


def bytes_of(optimizer, dtype):
    params = {"w": jnp.zeros((100, 100), dtype)}
    leaves = jax.tree.leaves(jax.eval_shape(optimizer.init, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) // 10_000


@pytest.mark.parametrize(
    ("optimizer", "dtype", "expected"),
    [
        (rllc.rllc(0.1), FLOAT32, 12),
        (rllc.rllc(0.1, memory_dtype=BFLOAT16), FLOAT32, 8),
        (rllc.rllc(0.1, memory_dtype=FLOAT16), FLOAT32, 6),
        (rllc.rllc(0.1), BFLOAT16, 8),
        (rllc.rllc(0.1, memory_dtype=FLOAT32), BFLOAT16, 12),
        (rllc.rllc_adam(0.1), FLOAT32, 20),
        (rllc.rllc_adam(0.1, memory_dtype=BFLOAT16), FLOAT32, 16),
        (rllc.momentum(0.1), BFLOAT16, 2),
        (rllc.rllc(0.1, rllc.gradient_history(4)), BFLOAT16, 8),
        (
            rllc.rllc(0.1, law=rllc.LearningLaw(solver=rllc.PseudoInverse())),
            FLOAT16,
            12,
        ),
        (rllc.rllc(0.1, memory_dtype=FLOAT32), jnp.complex64, 24),
    ],
)
def test_a_state_has_the_bytes_per_parameter_that_the_guide_says(
    optimizer, dtype, expected
):
    assert bytes_of(optimizer, dtype) == expected


IN_PLACE = {
    "decays": lambda dtype: rllc.rllc(0.1, memory_dtype=dtype),
    "four decays": lambda dtype: rllc.rllc(
        0.1, rllc.decays(0.0, 0.5, 0.9, 0.99), memory_dtype=dtype
    ),
    "weight decay": lambda dtype: rllc.rllc(0.1, weight_decay=0.1, memory_dtype=dtype),
    "real block": lambda dtype: rllc.rllc(
        0.1, rllc.real_block(0.9, 3), memory_dtype=dtype
    ),
    "complex blocks": lambda dtype: rllc.rllc(
        0.1, rllc.complex_block(0.9, 0.3, 2), memory_dtype=dtype
    ),
    "gradient history": lambda dtype: rllc.rllc(
        0.1, rllc.gradient_history(4), memory_dtype=dtype
    ),
    "leaf": lambda dtype: rllc.rllc(
        0.1, law=rllc.LearningLaw(groups="leaf"), memory_dtype=dtype
    ),
    "rllc_adam": lambda dtype: rllc.rllc_adam(0.1, memory_dtype=dtype),
    "decays on adam": lambda dtype: rllc.rllc_adam(
        0.1, rllc.decays(0.5, 0.9), memory_dtype=dtype
    ),
    "momentum": lambda dtype: rllc.rllc(
        0.1, rllc.decays(0.9), rllc.FixedLaw([1]), memory_dtype=dtype
    ),
    "nesterov": lambda dtype: rllc.rllc(
        0.1, rllc.decays(0.0, 0.9), rllc.FixedLaw([1, 0.9]), memory_dtype=dtype
    ),
    "fixed law": lambda dtype: rllc.rllc(
        0.1, rllc.gradient_history(3), rllc.FixedLaw([1, 1, 1]), memory_dtype=dtype
    ),
}


# The size of "p" is prime, and that of "o" a product of two primes.
SHAPES = {"w": (1000, 2000), "b": (4000,), "f": (1_000_000,), "c": (3, 3, 64, 128)}
SHAPES |= {"p": (500_009,), "o": (701, 709)}


def temporary_share(optimizer, dtype, gradient_dtype, shapes=SHAPES):
    """XLA's temporary memory of a donated step relative to the parameters'.

    Buffers are assigned before LLVM, which may be quick.
    """

    def tree(dtype):
        return {n: jax.ShapeDtypeStruct(shape, dtype) for n, shape in shapes.items()}

    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, gradient = tree(dtype), tree(gradient_dtype)
    state = jax.eval_shape(optimizer.init, params)
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, gradient)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    compiled = lowered.compile({"xla_backend_optimization_level": 0})
    return compiled.memory_analysis().temp_size_in_bytes / size


DTYPES = {  # of parameters, memory and gradients
    "float32": (FLOAT32, None, FLOAT32),
    "bfloat16 memory": (FLOAT32, BFLOAT16, FLOAT32),
    "bfloat16": (BFLOAT16, None, FLOAT32),
    "float16": (FLOAT16, None, FLOAT16),
}
COMMON = ("decays", "complex blocks", "rllc_adam")
DONATED = [
    pytest.param(
        name,
        dtypes,
        marks=[] if kind == "float32" or name in COMMON else [pytest.mark.slow],
        id=f"{name}-{kind}",
    )
    for name in IN_PLACE
    for kind, dtypes in DTYPES.items()
]


@pytest.mark.parametrize(("name", "dtypes"), DONATED)
def test_donated_steps_copy_nothing(name, dtypes):
    dtype, memory_dtype, gradient_dtype = dtypes
    optimizer = IN_PLACE[name](memory_dtype)
    assert temporary_share(optimizer, dtype, gradient_dtype) < 0.01


def test_units_need_at_most_their_outputs_and_states_more():
    """Whether they are finite is known once they are computed."""
    adam = rllc.rllc(0.1, rllc.units(optax.scale_by_adam(), optax.trace(0.9)))
    assert temporary_share(adam, FLOAT32, FLOAT32) <= 5.01
