"""Intervals cover, tests keep their level, null values are those of theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stitching import similarity
from tests.stitching.pairs import ALL, DISTANCES, draw

KEY = jax.random.key(0)


def related(key, n=60, p=5):
    """A linear model in which x explains half of the variance of y."""
    first, second = jax.random.split(key)
    x = jax.random.normal(first, (n, p))
    return x, x[:, :3] + jax.random.normal(second, (n, 3))


def test_the_interval_of_a_biased_index_covers_its_limit():
    """R² is 1/2 with many samples; with 60 it is biased by 0.5 · 5 / 59."""

    @jax.jit
    def simulate(keys):
        def one(key):
            data, draws = jax.random.split(key)
            x, y = related(data)
            return similarity.bootstrap(
                similarity.linear_regression, x, y, key=draws, draws=200, level=0.9
            )

        return jax.lax.map(one, keys)

    found = simulate(jax.random.split(KEY, 150))
    covered = (found.low < 0.5) & (found.high > 0.5)
    assert 0.82 < covered.mean() < 0.97
    assert found.bias.mean() == pytest.approx(0.5 * 5 / 59, rel=0.25)
    bias = found.value.mean() - 0.5
    assert bias > 3 * found.value.std() / np.sqrt(150)
    assert abs((found.value - found.bias).mean() - 0.5) < bias / 2
    half = (found.high - found.low).mean() / 2
    assert half == pytest.approx(1.645 * found.value.std(), rel=0.25)


def test_the_interval_of_neighbours_does_not_see_copies():
    """Copies of a sample would be each other's neighbours."""
    x = jax.random.normal(KEY, (60, 4))
    y = jax.random.normal(jax.random.key(1), (60, 4))
    index = ALL["mutual_neighbours"]
    found = similarity.bootstrap(index, x, y, key=KEY, draws=200)
    assert found.low < 0.0 + 1e-2  # Unrelated: nothing in common but chance.
    assert found.high < 0.1
    assert found.bias == pytest.approx(3 / 59, rel=0.4)


def test_the_p_value_of_unrelated_activations_is_uniform():
    @jax.jit
    def simulate(keys):
        def one(key):
            first, second, shuffles = jax.random.split(key, 3)
            x, y = (jax.random.normal(k, (20, 4)) for k in (first, second))
            return similarity.permutation_test(
                similarity.cka, x, y, key=shuffles, permutations=39
            ).p_value

        return jax.lax.map(one, keys)

    p = np.asarray(simulate(jax.random.split(KEY, 400)))
    for level in (0.1, 0.5):
        assert abs((p <= level).mean() - level) < 3 * np.sqrt(level / 400)


@pytest.mark.parametrize(
    "name", ["cka", "cca", "linear_regression", "procrustes", "rsa, Euclidean"]
)
def test_the_p_value_of_class_labels_is_that_of_counting(name):
    """Every index of two labels follows from how many samples have them in common.

    Many shuffles give the same value, but for rounding, which must not break ties.
    """

    def in_common(x, y):
        return jnp.abs((x[:, 0] == y[:, 0]).sum() - 4)

    rng = np.random.default_rng(0)
    means_x, means_y = rng.normal(size=(2, 5)), rng.normal(size=(2, 4))
    means_x[:, 0] = means_y[:, 0] = 0, 1
    for seed in range(3):
        labels = [rng.permutation(8) % 2 for _ in range(2)]
        x, y = np.float32(means_x[labels[0]]), np.float32(means_y[labels[1]])
        given = {"key": jax.random.key(seed), "permutations": 99}
        found = similarity.permutation_test(
            ALL[name], x, y, larger_is_similar=name not in DISTANCES, **given
        )
        counted = similarity.permutation_test(in_common, x, y, **given)
        assert found.p_value == counted.p_value


def test_null_values_are_those_of_theory():
    x, y = related(KEY)
    for index, null in (
        (similarity.linear_regression, 5 / 59),
        (ALL["mutual_neighbours"], 3 / 59),
        (ALL["cka, debiased"], 0.0),
    ):
        test = similarity.permutation_test(index, x, y, key=KEY, permutations=199)
        noise = test.null.std() / np.sqrt(199)
        assert abs(test.null_value - null) < 4 * noise + 0.01
        assert 1 / 200 <= test.p_value < 0.05


@pytest.mark.parametrize("name", ["procrustes", "shape_distance"])
def test_distances_are_similar_where_they_are_small(name):
    assert name in DISTANCES
    x, y = related(KEY)
    given = ALL[name], x, y
    test = similarity.permutation_test(
        *given, key=KEY, permutations=99, larger_is_similar=False
    )
    assert test.p_value == pytest.approx(0.01)
    wrong = similarity.permutation_test(*given, key=KEY, permutations=99)
    assert wrong.p_value == 1


def test_indices_on_the_host_work_too_and_equal_keys_give_equal_draws():
    x, y = (each.astype(np.float32) for each in draw(24))
    index = similarity.matched_correlation
    one = similarity.bootstrap(index, x, y, key=KEY, draws=9)
    again = similarity.bootstrap(index, x, y, key=KEY, draws=9, batch_size=2)
    assert one == again
    assert one.low <= one.high
    assert one.value == index(x, y)
    vector = similarity.bootstrap(
        similarity.canonical_correlations, x, y, key=KEY, draws=9
    )
    assert vector.low.shape == vector.value.shape == (5,)


def test_an_index_that_is_0_in_every_order_has_a_p_value_of_1():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)
    with jax.debug_nans(True):
        found = similarity.permutation_test(
            lambda x, y: 0 * x.sum(), x, x, key=jax.random.key(0), permutations=9
        )
    assert found.p_value == 1
