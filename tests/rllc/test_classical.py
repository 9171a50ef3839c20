"""The classics, exactly: each is Optax's own, update for update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc

CLASSICS = {
    "sgd": (rllc.sgd(0.1), optax.sgd(0.1)),
    "momentum": (rllc.momentum(0.1, 0.9), optax.sgd(0.1, momentum=0.9)),
    "nesterov": (rllc.nesterov(0.1, 0.9), optax.sgd(0.1, momentum=0.9, nesterov=True)),
}


@pytest.mark.parametrize("name", CLASSICS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.complex64])
def test_classics_equal_optax_update_for_update(name, dtype):
    with jax.enable_x64(True):
        ours, theirs = CLASSICS[name]
        rng = np.random.default_rng(0)
        params = {"w": jnp.zeros((3, 2), dtype), "b": jnp.zeros(2, dtype)}
        state, expected_state = ours.init(params), theirs.init(params)
        rounding = 4 * np.finfo(dtype).eps
        for _ in range(30):
            gradient = jax.tree.map(
                lambda p: jnp.asarray(rng.normal(size=p.shape), dtype), params
            )
            updates, state = ours.update(gradient, state, params)
            expected, expected_state = theirs.update(gradient, expected_state, params)
            for got, wanted in zip(
                jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True
            ):
                assert got.dtype == wanted.dtype
                largest = np.abs(wanted).max()
                np.testing.assert_allclose(
                    got, wanted, rtol=rounding, atol=rounding * largest
                )


@pytest.mark.parametrize(
    "transformation",
    [optax.scale_by_adam(), optax.scale_by_lion(), optax.trace(0.9)],
    ids=["adam", "lion", "momentum"],
)
def test_one_unit_under_a_fixed_law_is_that_optimizer(transformation):
    ours = rllc.scale_by_rllc(rllc.units(transformation), rllc.FixedLaw([1.0]))
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(10, 6)), jnp.float32)
    state, expected_state = ours.init(gradients[0]), transformation.init(gradients[0])
    for gradient in gradients:
        updates, state = ours.update(gradient, state)
        expected, expected_state = transformation.update(gradient, expected_state)
        np.testing.assert_array_equal(updates, expected)


def test_fixed_laws_compute_no_inner_products():
    """No reduction is left in the compiled step."""
    optimizer = rllc.scale_by_rllc(rllc.decays(0.0, 0.9), rllc.FixedLaw([1.0, 0.9]))
    x = jnp.ones((8, 8))
    compiled = jax.jit(optimizer.update).lower(x, optimizer.init(x)).compile()
    assert "reduce(" not in compiled.as_text()
    learning = rllc.scale_by_rllc(rllc.decays(0.0, 0.9))
    compiled = jax.jit(learning.update).lower(x, learning.init(x)).compile()
    assert "reduce(" in compiled.as_text()
