"""Similarity indices: reference values, definitions, null values, ways of computing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import stitching
from stitching import similarity
from tests.stitching.pairs import (
    ALL,
    DISTANCES,
    FROM_MOMENTS,
    centred,
    draw,
)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (similarity.cka, 0.55761),
        (ALL["cka, debiased"], 0.51346),
        (ALL["cka, RBF"], 0.65483),
        (ALL["cca, not centred"], 0.54312),
        (similarity.cca, 0.54540),
    ],
)
def test_reference_values_are_met(index, value):
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    y = rng.randn(100, 10) + x
    np.testing.assert_allclose(index(x, y), value, atol=5.1e-6)


def hsic_by_loops(k, l):  # noqa: E741
    """The U-statistic, term by term over distinct indices (Song et al., equation 3)."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    two = np.trace(k @ l) / (n * (n - 1))
    pairs = (k.sum() * l.sum() - 4 * (k.sum(0) @ l.sum(0)) + 2 * np.trace(k @ l)) / (
        n * (n - 1) * (n - 2) * (n - 3)
    )
    three = ((k.sum(0) @ l.sum(0)) - np.trace(k @ l)) / (n * (n - 1) * (n - 2))
    return two + pairs - 2 * three


@pytest.mark.parametrize(("n", "p"), [(40, 6), (12, 30)])
def test_debiased_cka_is_the_ratio_of_u_statistics(x64, n, p):
    x, y = draw(n, p)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    roots = np.sqrt(hsic_by_loops(k, k) * hsic_by_loops(l, l))
    wanted = hsic_by_loops(k, l) / roots
    np.testing.assert_allclose(ALL["cka, debiased"](x, y), wanted, rtol=1e-9)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize(("n", "p"), [(40, 6), (12, 30)])
def test_features_and_gram_matrices_give_the_same_cka(x64, n, p, debiased):
    x, y = draw(n, p)

    def raw_gram(x):
        return x @ x.T

    given = similarity.cka(x, y, debiased=debiased)
    grams = similarity.cka(x, y, kernel=raw_gram, debiased=debiased)
    np.testing.assert_allclose(given, grams, rtol=1e-10)


def test_many_samples_need_no_gram_matrix():
    sizes = jax.ShapeDtypeStruct((10**7, 16), jnp.float32)
    text = str(jax.make_jaxpr(similarity.cka)(sizes, sizes))
    assert "10000000,10000000" not in text


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_shape_distance_is_the_angle_of_the_best_rotation(x64, alpha):
    def shape(x):
        x = centred(x)
        root = scipy.linalg.inv(np.real(scipy.linalg.sqrtm(x.T @ x)))
        x = x @ (alpha * np.eye(x.shape[1]) + (1 - alpha) * root)
        return np.pad(x / np.linalg.norm(x), ((0, 0), (0, 6 - x.shape[1])))

    x, y = draw()
    rotation, _ = scipy.linalg.orthogonal_procrustes(shape(y), shape(x))
    wanted = np.arccos((shape(x) * (shape(y) @ rotation)).sum())
    got = similarity.shape_distance(x, y, alpha=alpha)
    np.testing.assert_allclose(got, wanted, rtol=1e-9)
    if alpha == 1:
        chord = np.linalg.norm(shape(x) - shape(y) @ rotation)
        np.testing.assert_allclose(similarity.procrustes(x, y), chord, rtol=1e-9)


def test_pwcca_is_its_definition(x64):
    x, y = (centred(a) for a in draw())
    left, correlations, _ = np.linalg.svd(
        scipy.linalg.orth(x).T @ scipy.linalg.orth(y), full_matrices=False
    )
    variates = scipy.linalg.orth(x) @ left
    weights = np.abs(variates.T @ x).sum(axis=1)
    wanted = (weights * correlations).sum() / weights.sum()
    np.testing.assert_allclose(similarity.pwcca(x, y), wanted, rtol=1e-9)


def test_mutual_neighbours_are_counted(x64):
    x, y = draw()

    def nearest(x, i):
        distances = np.linalg.norm(x - x[i], axis=1)
        return set(np.argsort(distances)[1:4])

    shared = [len(nearest(x, i) & nearest(y, i)) / 3 for i in range(len(x))]
    got = similarity.mutual_neighbours(x, y, np.int64(3))
    np.testing.assert_allclose(got, np.mean(shared))


def test_matched_units_are_one_to_one_and_best_of_all_permutations(x64):
    x, y = draw(q=4)
    correlations = np.corrcoef(x, y, rowvar=False)[:6, 6:]
    best = max(
        np.mean([correlations[i, j] for j, i in enumerate(chosen)])
        for chosen in itertools.permutations(range(6), 4)
    )
    np.testing.assert_allclose(similarity.matched_correlation(x, y), best)
    highest = correlations.max(axis=1).mean()
    np.testing.assert_allclose(similarity.max_correlation(x, y), highest)
    np.testing.assert_allclose(similarity.unit_correlations(x, y), correlations)


@pytest.mark.parametrize("name", FROM_MOMENTS)
def test_moments_merged_from_batches_give_the_value_of_the_samples(x64, name):
    x, y = draw()
    seen = stitching.moments(x[:17], y[:17])
    seen = stitching.merge(seen, stitching.moments(x[17:], y[17:]))
    index = FROM_MOMENTS[name]
    np.testing.assert_allclose(index(seen), index(x, y), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "cka",
        "cka, debiased",
        "cka, RBF",
        "cca",
        "pwcca",
        "linear_regression",
        "procrustes",
        "max_correlation",
        "rsa, Euclidean",
    ],
)
def test_float32_is_safe_at_a_mean_of_a_thousand_deviations(name):
    x, y = ((centred(a) / a.std() + 1000) for a in draw(100, 10, 10, decay=1.2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    index = ALL[name]
    wanted = index(*(centred(a.astype(np.float64)) for a in (x, y)))
    np.testing.assert_allclose(index(x, y), wanted, atol=1e-4)
    if name in FROM_MOMENTS:
        got = index(stitching.moments(x, y))
        np.testing.assert_allclose(got, wanted, atol=5e-4)


@pytest.mark.parametrize("name", ["svcca", "rsa", "mutual_neighbours"])
def test_indices_run_under_jit_where_nan_is_not_hidden(x64, name):
    x, y = draw()
    index = jax.jit(ALL[name])
    np.testing.assert_allclose(index(x, y), ALL[name](x, y), rtol=1e-10)
    x[0, 0] = np.nan
    assert jnp.isnan(index(x, y))


def test_what_is_known_may_be_compared_with_what_is_traced(x64):
    x, y = (jnp.asarray(a) for a in draw())
    wanted = similarity.cka(x, y)
    np.testing.assert_allclose(jax.jit(lambda y: similarity.cka(x, y))(y), wanted)
    seen = stitching.moments(x, y)
    inside = jax.jit(lambda share: share * similarity.cka(seen))(1.0)
    np.testing.assert_allclose(inside, wanted)


def test_cka_may_be_a_term_of_a_loss(x64):
    x, y = draw()
    direction = np.random.default_rng(1).normal(size=x.shape)
    slope = (np.asarray(jax.jit(jax.grad(similarity.cka))(x, y)) * direction).sum()
    step, cka = 1e-5 * direction, jax.jit(similarity.cka)
    near = cka(x + step, y) - cka(x - step, y)
    np.testing.assert_allclose(slope, near / 2e-5, rtol=1e-6)


# Features of x and of y that are dead, their value, and how many samples differ.
DEAD = {
    "none": ([], [], 0.0, 20),
    "one": ([1], [], 3.0, 20),
    "several": ([0, 1, 3], [], 0.0, 20),
    "in both": ([0, 2], [1, 3], 0.0, 20),
    "few samples": ([1], [0], 0.0, 4),
    "axes of equal length": ([1], [], 0.0, 20),
}
MOMENTS = ("cka", "cca", "svcca", "pwcca", "linear_regression", "shape_distance, half")
HAVE_GRADIENTS = [
    (name, of)
    for of in ("samples", "moments")
    for name in (ALL if of == "samples" else MOMENTS)
    if name not in ("matched_correlation", "rsa", "mutual_neighbours")
]


@pytest.mark.parametrize(("name", "of"), HAVE_GRADIENTS)
def test_gradients_are_right_where_features_are_dead(x64, name, of):
    @jax.jit
    @jax.value_and_grad
    def along(step, x, y, dx, dy):
        x, y = x + step * dx, y + step * dy
        seen = (x, y) if of == "samples" else (stitching.moments(x, y),)
        return jnp.sum(ALL[name](*seen))

    random = np.random.default_rng(1)
    directions = random.normal(size=(20, 5)), random.normal(size=(20, 5))
    for case, (of_x, of_y, value, n) in DEAD.items():
        x, y, dx, dy = (
            np.tile(a[:n], (20 // n, 1)) for a in (*draw(20, 5, 5), *directions)
        )
        if case == "axes of equal length":
            x = np.linalg.qr(centred(x))[0]
        x[:, of_x], y[:, of_y], dx[:, of_x], dy[:, of_y] = value, value, 0, 0
        (below, _), (_, slope), (above, _) = (
            along(step, x, y, dx, dy) for step in (-1e-5, 0.0, 1e-5)
        )
        if name == "shape_distance, whitened" and n < 5:
            assert np.isfinite(slope)  # of a distance that is 0
            continue
        wanted = (above - below) / 2e-5
        np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-8, err_msg=case)
        itself = along(0.0, x, x, dx, dy)[1]
        assert np.isfinite(itself), case


@pytest.mark.parametrize("name", ALL)
def test_an_activation_is_most_similar_to_itself(x64, name):
    x, _ = draw()
    if name == "unit_correlations":
        value = jnp.diagonal(ALL[name](x, x))
    else:
        value = ALL[name](x, x)
    best = 0 if name in DISTANCES else 1
    np.testing.assert_allclose(value, best, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.5, 1.0]))
def test_shape_distances_are_metrics(seed, alpha):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        a, b, c = (rng.normal(size=(8, 3)) for _ in range(3))
        pairs = ((a, c), (a, b), (b, c), (b, a))
        angle = METRIC[alpha]
        ac, ab, bc, ba = (float(angle(*pair)) for pair in pairs)
        assert ac <= ab + bc + 1e-9
        np.testing.assert_allclose(ab, ba, atol=1e-9)
        if alpha == 1:
            chord = float(similarity.procrustes(a, b))
            np.testing.assert_allclose(chord, 2 * np.sin(ab / 2), atol=1e-9)


METRIC = {
    alpha: jax.jit(lambda x, y, a=alpha: similarity.shape_distance(x, y, alpha=a))
    for alpha in (0.5, 1.0)
}


@pytest.mark.parametrize(
    ("index", "null"),
    [
        (similarity.cca, 6 / 39),
        (similarity.linear_regression, 6 / 39),
        (similarity.cka, np.sqrt(6 * 5 / (46 * 45))),
        (ALL["cka, debiased"], 0.0),
        (ALL["mutual_neighbours"], 3 / 39),
    ],
)
def test_independent_gaussians_have_the_null_value(x64, index, null):
    rng = np.random.default_rng(0)
    values = [
        index(rng.normal(size=(40, 6)), rng.normal(size=(40, 5))) for _ in range(80)
    ]
    noise = np.std(values) / np.sqrt(len(values))
    # For CKA that is a limit, 2 % off at this size.
    assert abs(np.mean(values) - null) < 4 * noise + 0.02 * null


@pytest.mark.parametrize("name", ["cca", "pwcca", "linear_regression"])
def test_a_feature_seen_twice_and_one_that_is_constant_have_no_rank(x64, name):
    x, y = draw()
    x[:, 4], x[:, 5] = x[:, 0], 3.0
    q, u = scipy.linalg.orth(centred(x)), scipy.linalg.orth(centred(y))
    assert q.shape == (40, 4)
    left, correlations, right = np.linalg.svd(q.T @ u, full_matrices=False)
    weights = np.abs((q @ left).T @ centred(x)).sum(axis=1)
    wanted = {
        "cca": (correlations**2).sum() / 4,
        "pwcca": (weights * correlations).sum() / weights.sum(),
        "linear_regression": np.sum((q.T @ y) ** 2) / np.sum(centred(y) ** 2),
    }
    index = FROM_MOMENTS[name]
    np.testing.assert_allclose(index(x, y), wanted[name], rtol=1e-8)
    seen = stitching.moments(x, y)
    np.testing.assert_allclose(index(seen), wanted[name], rtol=1e-7)
    if name == "pwcca":  # Directions of y weighed, of which x reaches 4 only.
        weights = np.abs((u @ right.T).T @ centred(y)).sum(axis=1)
        swapped = (weights * correlations).sum() / weights.sum()
        np.testing.assert_allclose(index(y, x), swapped, rtol=1e-8)


def test_fewer_samples_than_features_make_everything_a_linear_map(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 30)), rng.normal(size=(10, 25))

    @jax.jit
    def values(x, y):
        names = ("cca", "linear_regression", "canonical_correlations", "cka")
        return [getattr(similarity, name)(x, y) for name in names]

    cca, explained, correlations, cka = values(x, y)
    np.testing.assert_allclose(cca, 1, rtol=1e-9)
    np.testing.assert_allclose(explained, 1, rtol=1e-9)
    assert correlations.shape == (10,)
    assert cka < 0.9


def test_a_constant_unit_correlates_with_nothing(x64):
    x, y = draw()
    x[:, 2] = 7.0
    correlations = similarity.unit_correlations(x, y)
    assert not correlations[2].any()
    assert jnp.isfinite(correlations).all()
    assert jnp.isfinite(similarity.matched_correlation(x, y))


def test_positions_become_samples_or_features():
    activation = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    as_samples = similarity.positions(activation)
    np.testing.assert_array_equal(as_samples[3 * 4 + 5], activation[1, 1, 1])
    as_features = similarity.flattened(activation)
    np.testing.assert_array_equal(as_features[1], activation[1].ravel())
    assert (as_samples.shape, as_features.shape) == ((24, 5), (2, 60))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", [bool, np.float64])
def test_a_mask_of_samples_leaves_them_out(x64, name, kind):
    x, y = draw(50)
    mask = np.arange(50) < 40
    index = functools.partial(ALL[name], weights=mask.astype(kind))
    wanted = ALL[name](x[:40], y[:40])
    x[40:] = np.nan
    np.testing.assert_array_equal(index(x, y), wanted)


@pytest.mark.parametrize("name", FROM_MOMENTS)
def test_weighted_samples_are_repeated_ones(x64, name):
    x, y = draw(25)
    times = np.where(np.arange(25) < 15, 2, 1)
    repeated = (np.repeat(each, times, axis=0) for each in (x, y))
    wanted = ALL[name](*repeated)
    got = ALL[name](x, y, weights=times)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-8)
    if name != "shape_distance, half":  # Its scale is that of the sums.
        shares = stitching.moments(x, y, weights=times / times.sum())
        np.testing.assert_allclose(ALL[name](shares), wanted, rtol=1e-6, atol=1e-8)
