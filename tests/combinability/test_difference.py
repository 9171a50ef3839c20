"""Differences of networks: against SciPy, at the edges, and over many at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from combinability import (
    difference,
    disagreement,
    error_overlap,
    jensen_shannon,
    weight_cosine,
    weight_distance,
)
from stitching import similarity

RNG = np.random.default_rng(0)
ONE, TWO = 3 * RNG.normal(size=(2, 50, 4))
LABELS = RNG.integers(0, 4, size=50)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_disagreement_is_the_share_of_other_classes():
    wanted = np.mean(ONE.argmax(axis=1) != TWO.argmax(axis=1))
    np.testing.assert_allclose(disagreement(ONE, TWO), wanted, rtol=1e-6)
    assert disagreement(ONE, 7 * ONE + 1) == 0
    folded = disagreement(ONE.reshape(5, 10, 4), TWO.reshape(5, 10, 4))
    np.testing.assert_allclose(folded, wanted, rtol=1e-6)


def test_jensen_shannon_is_scipys(x64):
    rows = zip(softmax(ONE), softmax(TWO), strict=True)
    wanted = np.mean([distance.jensenshannon(p, q) ** 2 for p, q in rows])
    np.testing.assert_allclose(jensen_shannon(ONE, TWO), wanted, rtol=1e-12)
    np.testing.assert_allclose(jensen_shannon(TWO, ONE), wanted, rtol=1e-12)
    np.testing.assert_allclose(jensen_shannon(ONE + 9, TWO - 5), wanted, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_jensen_shannon_of_sure_networks_is_that_of_certainties(dtype):
    sure = jnp.array([[3e4, 0.0, -3e4], [0.0, 0.0, -jnp.inf]], dtype)
    other = jnp.array([[0.0, 3e4, -3e4], [0.0, 0.0, -jnp.inf]], dtype)
    assert jensen_shannon(sure, other).dtype == jnp.float32
    np.testing.assert_allclose(jensen_shannon(sure, other), np.log(2) / 2, rtol=1e-6)
    assert jensen_shannon(sure, sure) == 0
    slopes = jax.grad(lambda logits: jensen_shannon(logits, other[:1]))(sure[:1])
    assert jnp.isfinite(slopes.astype(jnp.float32)).all()


def test_error_overlap_is_that_of_the_sets_of_errors():
    found = error_overlap(ONE, TWO, LABELS)
    wrong = [
        set(np.flatnonzero(logits.argmax(axis=1) != LABELS)) for logits in (ONE, TWO)
    ]
    wanted = len(wrong[0] & wrong[1]) / len(wrong[0] | wrong[1])
    np.testing.assert_allclose(found.overlap, wanted, rtol=1e-6)


def test_independent_errors_overlap_as_by_chance():
    labels = RNG.integers(0, 4, size=20_000)
    logits = []
    for rate in (0.3, 0.1):
        wrong = RNG.random(labels.shape) < rate
        logits.append(np.eye(4)[(labels + wrong) % 4])
    found = error_overlap(logits[0], logits[1], labels)
    np.testing.assert_allclose(found.overlap, found.by_chance, atol=0.01)
    np.testing.assert_allclose(found.by_chance, 0.03 / 0.37, atol=0.01)


def test_networks_without_errors_overlap_wholly():
    right = np.eye(4)[LABELS]
    assert error_overlap(right, right, LABELS) == (1, 1)
    one_errs = error_overlap(right, -right, LABELS)
    assert one_errs == (0, 0)


def trees(seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "params": {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)},
            "phase": rng.normal(size=2) + 1j * rng.normal(size=2),
            "step": np.array([7, 8]) * (n + 1),
            "key": jax.random.key(n),
        }
        for n in range(2)
    ]


def flat(tree):
    phase = tree["phase"]
    params = tree["params"]
    return np.hstack([params["w"].ravel(), params["b"], phase.real, phase.imag])


def test_weights_are_compared_as_one_vector_without_integers_and_keys(x64):
    a, b = trees()
    u, v = flat(a), flat(b)
    np.testing.assert_allclose(
        weight_distance(a, b), distance.euclidean(u, v), rtol=1e-12
    )
    np.testing.assert_allclose(
        weight_cosine(a, b), 1 - distance.cosine(u, v), rtol=1e-12
    )
    assert weight_distance(a, a) == 0
    np.testing.assert_allclose(weight_cosine(a, a), 1)


def test_short_floats_are_summed_in_float32():
    a, b = ({"w": jnp.full(3000, value, jnp.bfloat16)} for value in (0.0, 1.0))
    assert weight_distance(a, b).dtype == jnp.float32
    np.testing.assert_allclose(weight_distance(a, b), np.sqrt(3000), rtol=1e-5)
    assert jnp.isnan(weight_cosine(a, b))


def apply(variables, x):
    return jnp.tanh(x @ variables["w"] + variables["b"]) @ variables["v"]


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = {"w": (3, 5), "b": (5,), "v": (5, 4)}
    return {name: jnp.asarray(rng.normal(size=s)) for name, s in shapes.items()}


@pytest.fixture
def inputs(x64):
    return jnp.asarray(RNG.normal(size=(30, 3))), RNG.integers(0, 4, size=30)


def test_difference_is_all_of_its_parts(inputs):
    x, labels = inputs
    a, b = network(0), network(1)
    found = difference(apply, a, b, x, labels)
    one, two = apply(a, x), apply(b, x)
    assert found.disagreement == disagreement(one, two)
    assert found.jensen_shannon == jensen_shannon(one, two)
    assert found.error_overlap == error_overlap(one, two, labels)
    assert found.cosine == weight_cosine(a, b)
    assert found.l2 == weight_distance(a, b)
    np.testing.assert_allclose(found.cka, similarity.cka(one, two))
    assert difference(apply, a, b, x).error_overlap is None


def test_a_network_does_not_differ_from_itself(inputs):
    x, labels = inputs
    a = network(0)
    found = difference(apply, a, a, x, labels)
    assert (found.disagreement, found.l2) == (0, 0)
    np.testing.assert_allclose(found.jensen_shannon, 0, atol=1e-15)
    np.testing.assert_allclose((found.cka, found.cosine), 1)
    assert found.error_overlap is not None
    assert found.error_overlap.overlap == 1


def test_many_combinations_are_compared_at_once(inputs):
    x, labels = inputs
    a, others = network(0), [network(seed) for seed in (1, 2, 3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)

    @jax.jit
    def compare(b):
        return difference(apply, a, b, x, labels)

    together = jax.vmap(compare)(stacked)
    for number, b in enumerate(others):
        alone = compare(b)
        jax.tree.map(
            lambda many, one, n=number: np.testing.assert_allclose(many[n], one, 1e-9),
            together,
            alone,
        )


def test_collapsed_and_broken_networks_are_findings_not_errors(inputs):
    x, labels = inputs
    a, b = network(0), network(1)
    collapsed = b | {"v": jnp.zeros((5, 4))}
    found = difference(apply, a, collapsed, x, labels)
    assert jnp.isnan(found.cka)
    assert jnp.isfinite(found.jensen_shannon)
    broken = b | {"v": b["v"].at[0, 0].set(jnp.nan)}
    found = jax.jit(lambda b: difference(apply, a, b, x, labels))(broken)
    assert all(jnp.isnan(leaf) for leaf in jax.tree.leaves(found))


TREE = {"w": jnp.ones(3)}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: disagreement(ONE, TWO[:9]), ValueError, r"\(50, 4\) and \(9, 4\)"),
        (lambda: jensen_shannon(ONE[0], TWO[0]), ValueError, r"classes\), .* \(4,\)"),
        (lambda: disagreement(ONE[:0], TWO[:0]), ValueError, r"empty, got \(0, 4\)"),
        (
            lambda: error_overlap(ONE, TWO, LABELS[:9]),
            ValueError,
            r"labels: expected shape \(50,\), .* \(9,\)",
        ),
        (
            lambda: error_overlap(ONE, TWO, LABELS + 1),
            ValueError,
            "labels: expected classes from 0 to 3, got 1 to 4",
        ),
        (
            lambda: error_overlap(ONE, TWO, np.eye(4)[LABELS]),
            TypeError,
            "labels: expected integers, got float",
        ),
        (
            lambda: weight_distance(TREE, {"v": jnp.ones(3)}),
            ValueError,
            "expected the leaf 'w'",
        ),
        (lambda: weight_cosine(TREE, {"w": jnp.ones(4)}), ValueError, "at 'w'"),
        (lambda: weight_distance({"n": 3}, {"n": 4}), ValueError, "numbers, got none"),
        (lambda: weight_cosine({}, {}), ValueError, "numbers, got none"),
        (
            lambda: difference(lambda v, x: x, TREE, TREE, jnp.ones(3)),
            ValueError,
            r"expected shape \(samples, classes\)",
        ),
        (
            lambda: difference(lambda v, x: x, TREE, TREE, jnp.ones((1, 3))),
            ValueError,
            "at least 2 samples",
        ),
    ],
)
def test_bad_input_raises(call, error, words):
    with pytest.raises(error, match=words):
        call()
