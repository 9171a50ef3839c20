"""Indices in float32: features of any scale, collapsed samples, large offsets, ties."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

import stitching
from stitching import similarity
from tests.stitching.pairs import ALL, FROM_MOMENTS, FROM_SAMPLES, draw

INDICES = FROM_MOMENTS | {
    "svcca, all axes": lambda *given: similarity.svcca(*given, share=1.0)
}
SCALES = {
    "a loud feature of x": (1, 1e3, 0, 1.0),
    "a faint feature of x": (1, 1e-6, 0, 1.0),
    "a loud feature of y": (0, 1.0, 2, 1e3),
    "a faint feature of y": (0, 1.0, 2, 1e-6),
    "both": (1, 1e4, 2, 1e-5),
}


def in_float64(index, x, y):
    with jax.enable_x64(True):
        return np.asarray(index(*(np.asarray(each, np.float64) for each in (x, y))))


def short(x, y):
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("case", SCALES)
def test_moments_in_float32_give_the_value_of_float64_at_any_scale(name, case):
    x, y = draw()
    i, scale_x, j, scale_y = SCALES[case]
    x[:, i] *= scale_x
    y[:, j] *= scale_y
    x, y = short(x, y)
    wanted = in_float64(INDICES[name], x, y)
    np.testing.assert_allclose(INDICES[name](x, y), wanted, atol=2e-4)
    seen = stitching.moments(x, y)
    np.testing.assert_allclose(INDICES[name](seen), wanted, atol=5e-4)


EXTREME = {"faint": 1e-20, "loud": 1e18}
ISOTROPIC = {
    name: index for name, index in ALL.items() if name != "shape_distance, half"
}


@pytest.mark.parametrize("name", ISOTROPIC)
@pytest.mark.parametrize("case", EXTREME)
def test_squares_beyond_float32_change_nothing(name, case):
    x, y = short(*draw())
    x, y = x - x.mean(axis=0), y  # An offset would be another for uncentred indices.
    index = ISOTROPIC[name]
    scaled = x * np.float32(EXTREME[case])
    np.testing.assert_allclose(index(scaled, y), index(x, y), atol=1e-3)


@pytest.mark.parametrize("index", [similarity.cka, similarity.cca])
def test_features_close_to_the_largest_number_keep_their_index(index):
    x, y = short(*draw())
    largest = x / np.abs(x).max() * np.float32(1e38)
    np.testing.assert_allclose(index(largest, y), index(x, y), atol=1e-3)


def collapsed(seed=0):
    """Five classes that have collapsed to points, far apart and far from 0."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(40, 2))
    pair = []
    for features in (6, 5):
        centres = 30 * rng.normal(size=(5, features)) + 300
        within = 1e-2 * (shared @ rng.normal(size=(2, features)))
        pair.append(centres[np.arange(40) % 5] + within)
    return short(*pair)


def offset():
    x, y = draw()
    return short(x + 3000, y - 2000)


@pytest.mark.parametrize("pair", [collapsed, offset])
@pytest.mark.parametrize("name", [*FROM_SAMPLES, "rsa, Euclidean ranks"])
def test_distances_in_float32_are_those_of_float64(name, pair):
    index = FROM_SAMPLES.get(
        name,
        lambda x, y: similarity.rsa(
            x, y, distance=similarity.euclidean_distance, compare=similarity.spearman
        ),
    )
    x, y = pair()
    np.testing.assert_allclose(index(x, y), in_float64(index, x, y), atol=2e-3)


@pytest.mark.parametrize("name", ["euclidean_distance", "correlation_distance"])
@pytest.mark.parametrize("features", [5, 8, 19])
def test_each_distance_is_that_of_float64(name, features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, features)) + 100
    x[6:] = x[:6] + 1e-3 * rng.normal(size=(6, features))
    x = x.astype(np.float32)
    distance = getattr(similarity, name)
    with jax.enable_x64(True):
        wanted = np.asarray(distance(x.astype(np.float64)))
    tolerance = 1e-5 if name == "euclidean_distance" else 2e-2
    np.testing.assert_allclose(distance(x), wanted, rtol=tolerance, atol=1e-7)
    differences = x[:, None].astype(float) - x
    if name == "euclidean_distance":
        np.testing.assert_allclose(wanted, np.sqrt((differences**2).sum(-1)))


# ---- Ties.


def expected_overlap(x, y, k):
    """The mean overlap over all ways to break ties, of x and of y, by enumeration."""

    def sets(x, i):
        distances = np.round(np.linalg.norm(x - x[i], axis=1), 9)
        others = [j for j in range(len(x)) if j != i]
        choices = list(itertools.combinations(others, k))
        sums = [sorted(distances[list(chosen)]) for chosen in choices]
        return [c for c, s in zip(choices, sums, strict=True) if s == min(sums)]

    overlaps = []
    for i in range(len(x)):
        pairs = itertools.product(sets(x, i), sets(y, i))
        overlaps.append(np.mean([len(set(a) & set(b)) for a, b in pairs]))
    return np.mean(overlaps) / k


RNG = np.random.default_rng(0)
TIED = {
    "dead": np.zeros((8, 3)),
    "one-hot": np.eye(8)[:, :5],
    "one-hot classes": np.eye(3)[np.arange(8) % 3],
    "sparse": np.maximum(RNG.normal(size=(8, 4)) - 0.9, 0),
    "integers": RNG.integers(0, 2, (8, 3)).astype(float),
    "no ties": RNG.normal(size=(8, 3)),
}


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("pair", [*itertools.combinations_with_replacement(TIED, 2)])
def test_neighbours_under_ties_are_the_expected_ones(pair, k):
    x, y = (np.pad(TIED[name], ((0, 0), (0, 5)))[:, :5] for name in pair)
    got = similarity.mutual_neighbours(*short(x, y), k)
    np.testing.assert_allclose(got, expected_overlap(x, y, k), rtol=1e-5)


@pytest.mark.optimized
@pytest.mark.parametrize("distance", ["euclidean_distance", "correlation_distance"])
def test_layers_without_order_have_neighbours_by_chance(distance):
    one_hot = np.eye(20, dtype=np.float32)
    distance = getattr(similarity, distance)
    got = similarity.mutual_neighbours(
        one_hot, one_hot[:, ::-1] * 3, 4, distance=distance
    )
    assert got == pytest.approx(4 / 19)


def test_distances_and_kernels_may_be_counts():
    """How many features of two samples differ, as integers."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 3, (2, 12, 5))

    def count(x):
        return (x[:, None] != x).sum(-1)

    def share(x):
        return count(x) / 5

    for index in (
        functools.partial(similarity.mutual_neighbours, k=3),
        similarity.rsa,
    ):
        got, wanted = (index(x, y, distance=each) for each in (count, share))
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
    got = similarity.cka(x, y, kernel=lambda x: 5 - count(x))
    np.testing.assert_allclose(got, similarity.cka(x, y, kernel=lambda x: 1 - share(x)))


SPARSE = {
    "one-hot": lambda rng: np.eye(7)[rng.integers(0, 7, 40)],
    "sparse": lambda rng: np.maximum(rng.normal(size=(40, 7)) - 1.0, 0),
    "binary": lambda rng: rng.integers(0, 2, (40, 7)) + 0.0,
}


@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.parametrize(
    "name", ["mutual_neighbours", "rsa", "rsa, Euclidean", "cka, RBF"]
)
def test_ties_do_not_depend_on_the_order_of_samples_or_features(name, case):
    rng = np.random.default_rng(1)
    x, y = short(SPARSE[case](rng) + 0.1, SPARSE[case](rng) + 0.1)
    if name == "rsa":  # A sample of equal features correlates with nothing.
        x[:, 0] += 2
        y[:, 1] += 2
    if name == "cka, RBF":  # The median distance must not be 0.
        x, y = x + rng.normal(size=(40, 1)), y + rng.normal(size=(40, 1))
        x, y = short(x, y)
    index = ALL[name]
    order, features = rng.permutation(40), rng.permutation(7)
    value = index(x, y)
    np.testing.assert_allclose(index(x[order], y[order]), value, atol=1e-6)
    np.testing.assert_allclose(index(x[:, features], y), value, atol=1e-5)
    if name == "mutual_neighbours" and case == "sparse":
        assert value < 0.4  # Independent: near 3 / 39 and far below 0.76.


@pytest.mark.parametrize("unit", np.linspace(0.1, 1.7, 12))
def test_ties_do_not_depend_on_where_equal_distances_lie(unit):
    """Samples on a grid have a few distances only, wherever these round to."""
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 7, (40, 1)) * unit + 20 for _ in range(2))
    index = jax.tree_util.Partial(
        similarity.rsa, distance=similarity.euclidean_distance
    )
    np.testing.assert_allclose(index(*short(x, y)), in_float64(index, x, y), atol=1e-6)


def test_distances_equal_up_to_rounding_tie_in_rsa():
    """Binary features have a few distances only, whatever their rounding."""
    rng = np.random.default_rng(2)
    x, y = (rng.integers(0, 2, (30, 9)) / 3.0 + 0.1 for _ in range(2))
    for distance in (similarity.euclidean_distance, similarity.correlation_distance):
        index = jax.tree_util.Partial(similarity.rsa, distance=distance)
        got = similarity.rsa(*short(x, y), distance=distance)
        np.testing.assert_allclose(got, in_float64(index, x, y), atol=1e-4)


@pytest.mark.parametrize("name", ["euclidean", "correlation"])
def test_many_distances_that_are_near_each_other_are_not_ties(name):
    """Half a million distances lie closer than rounding, each to the next."""
    rng = np.random.default_rng(4)
    shared = rng.normal(size=(1000, 64))
    x, y = (np.maximum(shared + rng.normal(size=(1000, 64)), 0) for _ in range(2))
    distance = {
        "euclidean": similarity.euclidean_distance,
        "correlation": similarity.correlation_distance,
    }[name]
    wanted: Any = stats.spearmanr(pdist(x, name), pdist(y, name))
    got = similarity.rsa(*short(x, y), distance=distance)
    np.testing.assert_allclose(got, wanted.statistic, atol=1e-4)


def test_ranks_of_integers_keep_their_halves():
    u, v = np.array([1, 1, 2, 3]), np.array([1, 2, 2, 3])
    wanted: Any = stats.spearmanr(u, v)
    assert float(similarity.spearman(u, v)) == pytest.approx(wanted.statistic, 1e-6)
    counts = similarity.euclidean_distance(np.array([[0, 0], [3, 4]]))
    np.testing.assert_array_equal(counts, [[0, 5], [5, 0]])


def test_distances_have_gradients_without_keeping_every_difference():
    x, y = short(*draw())

    def loss(x):
        return similarity.cka(x, y, kernel=similarity.RBF(0.5))

    with jax.enable_x64(True):
        direction = np.random.default_rng(1).normal(size=x.shape)
        x, y = x.astype(float), y.astype(float)
        slope = (np.asarray(jax.grad(loss)(jnp.asarray(x))) * direction).sum()
        ahead, behind = (loss(x + step * direction) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-4)
