"""Combinations lie where their coefficients say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combinability import combine, combine_many


def network(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {
        "dense": {
            "kernel": rng.normal(size=(3, 4)).astype(dtype),
            "bias": rng.normal(size=4).astype(dtype),
        },
        "steps": np.array([seed, 7]),
        "flag": np.array(seed == 1),
    }


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.complex64])
@pytest.mark.parametrize(("coefficient", "seed"), [(0.0, 1), (1.0, 2)])
def test_the_ends_are_the_networks_exactly(dtype, coefficient, seed):
    a, b = network(1, dtype), network(2, dtype)
    end, expected = combine(a, b, coefficient), network(seed, dtype)
    for name, leaf in end["dense"].items():
        assert leaf.dtype == dtype
        np.testing.assert_array_equal(leaf, expected["dense"][name])
    corner = combine_many([a, b, a], jnp.array([1 - coefficient, coefficient, 0]))
    np.testing.assert_array_equal(
        corner["dense"]["kernel"], expected["dense"]["kernel"]
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), low=st.floats(-2, 2))
def test_each_element_is_combined_by_its_own_coefficient(seed, low):
    rng = np.random.default_rng(seed)
    a, b = network(1), network(2)
    c = jax.tree.map(lambda x: low + rng.random(x.shape).astype(np.float32), a)
    found = combine(a, b, c)
    for name in ("kernel", "bias"):
        x, y, t = (tree["dense"][name].astype(np.float64) for tree in (a, b, c))
        np.testing.assert_allclose(
            found["dense"][name], (1 - t) * x + t * y, rtol=1e-5, atol=1e-5
        )
    np.testing.assert_array_equal(found["steps"], a["steps"])
    assert found["flag"]


def test_a_pair_is_many_of_two():
    a, b = network(1), network(2)
    kernel = np.linspace(-1, 2, 4, dtype=np.float32)
    c = {"dense": {"kernel": kernel, "bias": 0.25}, "steps": 0.0, "flag": 0.0}
    both = jax.tree.map(lambda x: jnp.stack([1 - jnp.asarray(x), jnp.asarray(x)]), c)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
        combine(a, b, c),
        combine_many([a, b], both),
    )


@pytest.mark.parametrize("kind", [list, tuple])
def test_coefficients_of_networks_may_be_a_list_of_numbers(kind):
    models = [jax.tree.leaves(network(seed)["dense"]) for seed in (1, 2)]
    wanted = combine_many(models, jnp.array([0.3, 0.7]))
    for numbers in ((0.3, 0.7), (np.float32(0.3), jnp.float32(0.7))):
        got = combine_many(models, kind(numbers))
        jax.tree.map(np.testing.assert_array_equal, got, wanted)
    of_leaves = combine_many(models, [jnp.array([0.3, 0.7])] * 2)
    jax.tree.map(np.testing.assert_array_equal, of_leaves, wanted)
    with pytest.raises(
        ValueError, match=r"expected an array of shape \(2,\) or a tree"
    ):
        combine_many(models, kind([0.3]))


def test_coefficients_may_be_traced_and_differentiated():
    a, b = network(1), network(2)
    slope = jax.grad(lambda t: combine(a, b, t)["dense"]["bias"].sum())(1.0)
    difference = (b["dense"]["bias"] - a["dense"]["bias"]).sum()
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


def test_numbers_of_numpy_are_compared_as_jax_holds_them():
    """Checkpoints in float64 where JAX computes in float32."""
    a, b = ({"w": np.random.default_rng(seed).normal(size=3)} for seed in (1, 2))
    moved = jax.tree.map(jnp.asarray, b)
    jax.tree.map(
        np.testing.assert_array_equal, combine(a, moved, 0.5), combine(a, b, 0.5)
    )
    assert combine(a, moved, 0.5)["w"].dtype == jnp.float32
    with jax.enable_x64(True), pytest.raises(ValueError, match="expected float64 of"):
        combine(a, moved, 0.5)
