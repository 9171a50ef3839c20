"""Measures of a stitched network are those of scikit-learn and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import special, stats
from sklearn import metrics

from stitching import report

N, CLASSES = 64, 4


def draw(seed=0):
    """Labels, and logits of three networks that know something of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=N)
    known = 1.5 * np.eye(CLASSES)[labels]
    logits = [known + rng.normal(size=(N, CLASSES)) for _ in range(3)]
    return labels, *(each.astype(np.float32) for each in logits)


measures = jax.jit(report.measures)


@pytest.mark.parametrize("seed", range(3))
def test_accuracies_and_agreement_are_those_of_scikit_learn(seed):
    labels, one, two, _ = draw(seed)
    a, b = one.argmax(-1), two.argmax(-1)
    found = measures(one, two, labels)
    expected = metrics.accuracy_score(labels, a), metrics.accuracy_score(labels, b)
    np.testing.assert_allclose(found.accuracy, expected[0], 1e-6)
    np.testing.assert_allclose(found.reference_accuracy, expected[1], 1e-6)
    np.testing.assert_allclose(found.relative_accuracy, expected[0] / expected[1], 1e-6)
    np.testing.assert_allclose(found.agreement, metrics.accuracy_score(a, b), 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_hits_table_is_the_confusion_matrix_of_the_hits(seed):
    labels, one, two, _ = draw(seed)
    hits = [each.argmax(-1) == labels for each in (one, two)]
    expected = metrics.confusion_matrix(*hits, labels=[False, True])
    np.testing.assert_array_equal(measures(one, two, labels).hits, expected)


def test_of_three_networks_it_tells_which_are_right_together():
    labels, *networks = draw()
    hits = np.stack([each.argmax(-1) == labels for each in networks])
    table = report.hits_table(*networks, labels=labels)
    for outcome in np.ndindex(2, 2, 2):
        expected = (hits == np.array(outcome)[:, None]).all(axis=0).sum()
        assert table[outcome] == expected
    pairwise = report.hits_table(*networks[:2], labels=labels)
    np.testing.assert_array_equal(table.sum(axis=2), pairwise)


def test_tables_of_batches_add_up_to_that_of_all_samples():
    labels, one, two, _ = draw()
    parts = [
        report.hits_table(one[part], two[part], labels=labels[part])
        for part in (slice(0, 20), slice(20, None))
    ]
    whole = report.hits_table(one, two, labels=labels)
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_the_cross_entropy_is_entropy_plus_divergence_as_scipy_has_them(
    x64, temperature
):
    _, one, two, _ = draw()
    q, p = (
        special.softmax(each.astype(np.float64) / temperature, -1)
        for each in (one, two)
    )
    entropy = stats.entropy(p, axis=-1).mean()
    divergence = stats.entropy(p, q, axis=-1).mean()
    one, two = (each.astype(np.float64) for each in (one, two))
    found = report.cross_entropy(one, two, temperature)
    np.testing.assert_allclose(found, entropy + divergence, 1e-12)
    own = report.cross_entropy(two, two, temperature)
    np.testing.assert_allclose(own, entropy, 1e-12)


def test_a_class_without_probability_in_the_reference_does_not_count():
    one, two = jnp.array([[0.0, 0.0, -jnp.inf]]), jnp.array([[1.0, 1.0, -jnp.inf]])
    np.testing.assert_allclose(report.cross_entropy(one, two), np.log(2), 1e-6)
    assert report.cross_entropy(one, jnp.zeros((1, 3))) == jnp.inf


def test_large_logits_are_safe_in_float32():
    sure = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    np.testing.assert_allclose(report.cross_entropy(sure, -sure), 1e4, 1e-6)
    np.testing.assert_allclose(report.energy(sure), -1e4, 1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 10), st.floats(-100, 100))
def test_a_network_equals_itself_whatever_its_confidence(seed, scale, shift):
    labels, one, *_ = draw(seed)
    found = measures(np.float32(scale) * one + np.float32(shift), one, labels)
    assert found.relative_accuracy == 1
    assert found.agreement == 1
    assert found.hits[0, 1] == found.hits[1, 0] == 0
    assert found.cross_entropy >= found.reference_entropy - 1e-5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_the_table_holds_the_accuracies_and_bounds_the_agreement(seed):
    labels, one, two, _ = draw(seed)
    found = measures(one, two, labels)
    hits = np.asarray(found.hits)
    assert hits.sum() == N
    np.testing.assert_allclose(hits[1].sum() / N, found.accuracy, 1e-6)
    np.testing.assert_allclose(hits[:, 1].sum() / N, found.reference_accuracy, 1e-6)
    # Where both hit they agree; where one hits they do not.
    assert hits[1, 1] / N <= found.agreement + 1e-6
    assert found.agreement <= 1 - (hits[0, 1] + hits[1, 0]) / N + 1e-6


def test_a_stitch_that_diverged_misses_and_agrees_with_nothing():
    labels, one, *_ = draw()
    found = measures(np.full_like(one, np.nan), one, labels)
    assert found.accuracy == found.relative_accuracy == found.agreement == 0
    assert jnp.isnan(found.cross_entropy)
    assert measures(np.full_like(one, np.nan), one * np.nan, labels).agreement == 0
    assert found.hits[1].sum() == 0


def test_of_a_reference_that_hits_nothing_there_is_no_relative_accuracy():
    logits = jnp.eye(2)
    found = report.relative_accuracy(logits, logits[::-1], jnp.array([0, 1]))
    assert jnp.isnan(found)


def test_many_stitches_are_measured_at_once():
    labels, one, two, three = draw()
    stitched = jnp.stack([one, two])
    found = jax.jit(jax.vmap(report.measures, (0, None, None)))(stitched, three, labels)
    for i, each in enumerate([one, two]):
        jax.tree.map(
            lambda many, single, i=i: np.testing.assert_allclose(many[i], single, 1e-6),
            found,
            measures(each, three, labels),
        )


def test_any_leading_axes_are_samples():
    labels, one, two, _ = draw()
    shape = (8, N // 8)
    split = [each.reshape(*shape, CLASSES) for each in (one, two)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-6),
        report.measures(*split, labels.reshape(shape)),
        measures(one, two, labels),
    )


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_samples_may_be_sharded(kind):
    labels, one, two, _ = draw()
    mesh = jax.make_mesh((8,), ("samples",), axis_types=(kind,))
    across = NamedSharding(mesh, PartitionSpec("samples"))
    placed = [jax.device_put(each, across) for each in (one, two, labels)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-6),
        measures(*placed),
        measures(one, two, labels),
    )


RANDOM = np.random.default_rng(5)
STITCHED, REFERENCE = RANDOM.normal(size=(2, 40, 5)).astype(np.float32)
RIGHT = RANDOM.integers(5, size=40)
VALUES = RANDOM.normal(size=(40, 5)).astype(np.float32)
MEASURES = {
    "accuracy": lambda s, r, y, v, **o: report.accuracy(s, y, **o),
    "relative_accuracy": lambda s, r, y, v, **o: report.relative_accuracy(s, r, y, **o),
    "agreement": lambda s, r, y, v, **o: report.agreement(s, r, **o),
    "cross_entropy": lambda s, r, y, v, **o: report.cross_entropy(s, r, 2.0, **o),
    "hits_table": lambda s, r, y, v, **o: report.hits_table(s, r, labels=y, **o),
    "measures": lambda s, r, y, v, **o: report.measures(s, r, y, **o),
    "r_squared": lambda s, r, y, v, **o: report.r_squared(s, v, **o),
    "regression": lambda s, r, y, v, **o: report.regression_measures(s, r, v, **o),
}


@pytest.mark.parametrize("name", MEASURES)
def test_weights_leave_samples_out_or_repeat_them(name):
    measure = MEASURES[name]
    weights = RANDOM.integers(3, size=40)
    rows = np.repeat(np.arange(40), weights)
    arrays = (STITCHED, REFERENCE, RIGHT, VALUES)
    expected = measure(*(each[rows] for each in arrays))
    padded = [each.copy() for each in arrays]
    for each, bad in zip(padded, (np.nan, np.nan, -100, np.nan), strict=True):
        each[weights == 0] = bad
    for same in (weights, weights.astype(np.float32)):
        found = measure(*padded, weights=same)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 2e-5), found, expected
        )
    mask = weights > 0
    expected = measure(*(each[mask] for each in arrays))
    # Sequences of tokens, masked token by token and sequence by sequence.
    tokens = [each.reshape(8, 5, *each.shape[1:]) for each in padded]
    found = measure(*tokens, weights=mask.reshape(8, 5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-5), found, expected)
    whole = [each.reshape(8, 5, *each.shape[1:]) for each in arrays]
    found = measure(*whole, weights=np.arange(8) < 3)
    expected = measure(*(each[:15] for each in arrays))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-5), found, expected)


def test_r_squared_is_that_of_scikit_learn():
    weights = RANDOM.random(40)
    for outputs, values in ((STITCHED, VALUES), (STITCHED[:, 0], VALUES[:, 0])):
        expected = metrics.r2_score(
            values, outputs, sample_weight=weights, multioutput="variance_weighted"
        )
        found = report.r_squared(outputs, values, weights=weights)
        np.testing.assert_allclose(found, expected, 1e-5)


def test_measures_of_a_regression_are_those_of_its_parts():
    found = report.regression_measures(STITCHED, REFERENCE, VALUES)
    one, two = (report.r_squared(each, VALUES) for each in (STITCHED, REFERENCE))
    np.testing.assert_allclose(found[:2], (one, two))
    assert np.isnan(found.relative_r_squared) == (two <= 0)
    own = report.regression_measures(VALUES, 0.9 * VALUES, VALUES)
    own_share = report.r_squared(0.9 * VALUES, VALUES)
    np.testing.assert_allclose(own.relative_r_squared, 1 / own_share, 1e-5)
    np.testing.assert_allclose(
        found.agreement, report.r_squared(STITCHED, REFERENCE), 1e-5
    )
    np.testing.assert_allclose(
        found.squared_error, np.mean((STITCHED - VALUES) ** 2), 1e-5
    )
    assert np.isnan(report.r_squared(STITCHED, np.ones_like(VALUES)))


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 1000.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_r_squared_is_not_defined_where_values_do_not_vary(constant, weighted):
    """The rounding of their mean is no variance; nor is what does not count."""
    values = np.full((1000, 2), constant, np.float32)
    weights = None
    if weighted:
        weights = np.arange(1000, dtype=np.float32) % 4
        values[weights == 0] = np.arange(250)[:, None]
    assert np.isnan(report.r_squared(values + 1, values, weights=weights))
    values[:, 0] = np.arange(1000)
    assert report.r_squared(values, values, weights=weights) == 1


def test_positions_of_an_image_are_weighted():
    scores = RANDOM.normal(size=(3, 4))
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
    padded = np.where(mask == 1, scores, np.nan)
    expected = [scores[0, :2].mean(), scores[1, 1:].mean(), 0]
    np.testing.assert_allclose(report.per_image(padded, weights=mask), expected, 1e-5)
