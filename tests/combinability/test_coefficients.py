"""Coefficients have the law and the granularity asked for, sample by sample."""

import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from combinability.coefficients import (
    Coefficients,
    _beta_quantile,
    bernoulli,
    beta,
    line,
    normal,
    simplex,
    uniform,
)
from tests.combinability.specs import by_hand

KEY = jax.random.key(5)


def ones(*shape):
    return np.ones(shape, np.float32)


VARIABLES = {
    "batch_stats": {"norm": {"mean": ones(4)}},
    "params": {
        "dense": {
            "kernel": np.ones((3, 4), np.float32),
            "bias": np.ones(4, np.float32),
        },
        "norm": {"scale": np.ones(4, np.float32)},
        "out": {"kernel": np.ones((4, 2), np.float32), "bias": np.ones(2, np.float32)},
    },
    "step": np.array(3),
}
HIDDEN = [
    ("batch_stats/norm/mean", 0),
    ("params/dense/kernel", 1),
    ("params/dense/bias", 0),
    ("params/norm/scale", 0),
    ("params/out/kernel", 0),
]
SYMMETRY = by_hand(VARIABLES, {"hidden": HIDDEN})
FLAT = np.zeros(20_000, np.float32)


def whole(distribution, variables=VARIABLES, index=0):
    """The coefficients spread over the leaves, as a dictionary by path."""
    drawn = distribution.sample(index, variables, key=KEY)
    full = jax.tree.map(lambda c, x: np.broadcast_to(c, np.shape(x)), drawn, variables)
    found = jax.tree_util.tree_flatten_with_path(full)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): v for p, v in found}


LAWS = {
    "uniform": (uniform(-0.5, 1.5), scipy.stats.uniform(-0.5, 2)),
    "beta": (beta(0.5, 2), scipy.stats.beta(0.5, 2)),
    "normal": (normal(0.3, 0.2), scipy.stats.norm(0.3, 0.2)),
    "narrow beta": (beta(30, 70), scipy.stats.beta(30, 70)),
    "simplex": (simplex(3), scipy.stats.beta(1, 2)),
    "dense simplex": (simplex(3, 4.0), scipy.stats.beta(4, 8)),
}


@pytest.mark.parametrize("name", LAWS)
def test_coefficients_follow_their_law(name):
    distribution, law = LAWS[name]
    drawn = np.asarray(distribution.sample(0, FLAT, key=KEY))
    for one in drawn.reshape(-1, FLAT.size):
        assert scipy.stats.kstest(one, law.cdf).pvalue > 1e-3
    if drawn.ndim == 2:
        np.testing.assert_allclose(drawn.sum(0), 1, rtol=1e-5)


def test_the_tabulated_quantiles_are_those_of_the_law(x64):
    u = np.random.default_rng(0).uniform(0.01, 0.99, (1, 1000))
    found = _beta_quantile(2, 3, jnp.asarray(u[0]))
    np.testing.assert_allclose(found, scipy.stats.beta(2, 3).ppf(u[0]), atol=1e-6)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_bernoulli_takes_b_with_its_probability(probability):
    drawn = np.asarray(bernoulli(probability).sample(0, FLAT, key=KEY))
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    deviation = np.sqrt(probability * (1 - probability) / FLAT.size)
    assert abs(drawn.mean() - probability) <= 4 * deviation


def test_uniform_coefficients_stay_in_their_range():
    drawn = np.asarray(uniform(0.1, 0.1).sample(0, FLAT, key=KEY))
    np.testing.assert_array_equal(drawn, np.float32(0.1))


def distinct(values):
    return len(np.unique(np.concatenate([np.ravel(v) for v in values])))


def test_each_granularity_shares_what_it_says():
    floats = [path for path in whole(uniform()) if path != "step"]
    expected = {"element": 4 + 12 + 4 + 4 + 8 + 2, "tensor": 6, "module": 3, "model": 1}
    for granularity, count in expected.items():
        found = whole(uniform(granularity=granularity))
        assert distinct(found[path] for path in floats) == count, granularity
        assert found["step"] == 0


def test_a_flax_module_has_one_coefficient_in_all_its_collections():
    found = whole(uniform(granularity="module"))
    assert found["batch_stats/norm/mean"][0] == found["params/norm/scale"][0]
    assert found["params/dense/kernel"][0, 0] == found["params/dense/bias"][0]


def test_a_module_of_nnx_has_one_coefficient():
    rngs = nnx.Rngs(0)
    layers = nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.BatchNorm(4, rngs=rngs)
    state = nnx.state(nnx.Sequential(*layers))
    of_state, of_dict = (
        uniform(granularity="module").sample(0, variables, key=KEY)
        for variables in (state, nnx.to_pure_dict(state))
    )
    assert distinct(jax.tree.leaves(of_state)) == 2
    chex.assert_trees_all_equal(nnx.to_pure_dict(of_state), of_dict)


def test_a_neuron_has_one_coefficient_in_all_its_arrays():
    found = whole(uniform(granularity="neuron", symmetry=SYMMETRY))
    units = found["params/dense/bias"]
    assert distinct([units]) == 4
    for path in ("batch_stats/norm/mean", "params/norm/scale"):
        np.testing.assert_array_equal(found[path], units)
    np.testing.assert_array_equal(found["params/dense/kernel"], np.tile(units, (3, 1)))
    # The outputs cannot move, so the last kernel follows what it reads.
    np.testing.assert_array_equal(found["params/out/kernel"].T, np.tile(units, (2, 1)))
    assert distinct([found["params/out/bias"], units]) == 5


def test_a_nested_neuron_has_a_coefficient_in_each_of_its_blocks():
    variables = {"query": ones(5, 2, 3), "out": ones(2, 3, 5)}
    groups = {"head": [("query", 1), ("out", 0)], "size": [("query", 2), ("out", 1)]}
    symmetry = by_hand(variables, groups, within={"size": ["head"]})
    found = whole(uniform(granularity="neuron", symmetry=symmetry), variables)
    assert distinct([found["query"]]) == 6
    np.testing.assert_array_equal(
        found["query"], np.broadcast_to(found["out"][:, :, 0], (5, 2, 3))
    )


def test_neurons_of_several_networks_have_coefficients_of_sum_1():
    drawn = simplex(3, granularity="neuron", symmetry=SYMMETRY).sample(
        0, VARIABLES, key=KEY
    )
    kernel = drawn["params"]["dense"]["kernel"]
    np.testing.assert_allclose(kernel.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(kernel[:, 0], drawn["params"]["dense"]["bias"])


ALL = {
    "uniform": uniform(-0.2, 1.3),
    "bernoulli": bernoulli(),
    "beta": beta(0.5, 0.5),
    "normal": normal(),
    "simplex": simplex(3),
    "line": line(8),
    "neuron": uniform(granularity="neuron", symmetry=SYMMETRY),
}


# Which bits a program has depends on how XLA emits it: as it does by default, whatever
# the tests do elsewhere.
EMITTER = "xla_cpu_use_fusion_emitters"
DEFAULT = {EMITTER: True} if EMITTER in os.environ["XLA_FLAGS"] else {}


@pytest.mark.optimized
@pytest.mark.parametrize("name", ALL)
def test_a_sample_is_the_same_bit_by_bit_however_it_is_drawn(name):
    def draw(i):
        return ALL[name].sample(i, VARIABLES, key=KEY)

    together = jax.jit(jax.vmap(draw), compiler_options=DEFAULT)(jnp.arange(8))
    drawn = jax.jit(draw, compiler_options=DEFAULT)
    alone = drawn(5)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[5], y), together, alone)
    others = drawn(6)
    leaves = zip(jax.tree.leaves(alone), jax.tree.leaves(others), strict=True)
    assert any(np.any(x != y) for x, y in leaves)


def test_different_leaves_are_independent():
    pair = {"x": FLAT, "y": FLAT}
    drawn = uniform().sample(0, pair, key=KEY)
    assert abs(np.corrcoef(drawn["x"], drawn["y"])[0, 1]) < 0.03
    following = uniform().sample(1, pair, key=KEY)
    assert abs(np.corrcoef(drawn["x"], following["x"])[0, 1]) < 0.03


def test_a_line_of_points_goes_from_a_to_b():
    points = [float(line(5, low=-1, high=2).sample(i, FLAT, key=KEY)) for i in range(5)]
    assert points == [-1, -0.25, 0.5, 1.25, 2]
    free = line(low=0.4, high=0.6).sample(0, FLAT, key=KEY)
    assert free.shape == ()
    assert 0.4 <= float(free) <= 0.6


def test_coefficients_have_the_parameters_accuracy(x64):
    half = uniform().sample(0, np.zeros(3, jnp.bfloat16), key=KEY)
    assert half.dtype == np.float32
    double = uniform().sample(0, {"z": np.zeros(4, np.complex128)}, key=KEY)["z"]
    assert double.dtype == np.float64
    assert np.any(np.asarray(double) != np.asarray(double, np.float32))


def test_old_keys_draw_what_new_ones_do():
    old = uniform().sample(3, FLAT, key=jax.random.PRNGKey(5))
    np.testing.assert_array_equal(old, uniform().sample(3, FLAT, key=KEY))


def test_distributions_are_no_functions():
    assert not callable(uniform())
    assert isinstance(uniform(), Coefficients)
    assert uniform() == uniform(0, 1)
