"""Differences of networks: against SciPy, at the edges, and over many at once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial import distance

import combinability as c
from stitching import similarity

# Compiled, as one by one their operations are a program each.
disagreement, error_overlap = jax.jit(c.disagreement), jax.jit(c.error_overlap)
jensen_shannon = jax.jit(c.jensen_shannon)
weight_cosine, weight_distance = jax.jit(c.weight_cosine), jax.jit(c.weight_distance)

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
    slopes = jax.grad(lambda logits: jensen_shannon(logits, other))(sure)
    assert jnp.isfinite(slopes.astype(jnp.float32)).all()


def test_classes_without_probability_change_no_gradient(x64):
    without = np.pad(ONE, ((0, 0), (0, 1)), constant_values=-np.inf)
    other = np.pad(TWO, ((0, 0), (0, 1)), constant_values=-np.inf)
    wanted = jax.grad(jensen_shannon)(ONE, TWO)
    got = jax.grad(jensen_shannon)(without, other)
    np.testing.assert_allclose(got[:, :-1], wanted, rtol=1e-9)
    np.testing.assert_array_equal(got[:, -1], 0)


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


def test_equal_networks_have_no_gradient_of_their_distance():
    a = trees()[0]["params"]
    slopes = jax.grad(weight_distance)(a, a)
    jax.tree.map(lambda slope: np.testing.assert_array_equal(slope, 0), slopes)


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


@jax.jit
def compare(a, b, x, labels):
    return c.difference(apply, a, b, x, labels)


@pytest.fixture
def inputs(x64):
    return jnp.asarray(RNG.normal(size=(30, 3))), RNG.integers(0, 4, size=30)


def test_difference_is_all_of_its_parts(inputs):
    x, labels = inputs
    a, b = network(0), network(1)
    one, two = apply(a, x), apply(b, x)
    parts = c.Difference(
        disagreement(one, two),
        jensen_shannon(one, two),
        similarity.cka(one, two),
        error_overlap(one, two, labels),
        weight_cosine(a, b),
        weight_distance(a, b),
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12),
        compare(a, b, x, labels),
        parts,
    )
    alone = jax.eval_shape(lambda x: c.difference(apply, a, b, x), x)
    assert alone.error_overlap is None


def test_a_network_does_not_differ_from_itself(inputs):
    a = network(0)
    found = compare(a, a, *inputs)
    assert (found.disagreement, found.l2) == (0, 0)
    np.testing.assert_allclose(found.jensen_shannon, 0, atol=1e-15)
    np.testing.assert_allclose((found.cka, found.cosine), 1)
    assert found.error_overlap is not None
    assert found.error_overlap.overlap == 1


def test_many_combinations_are_compared_at_once(inputs):
    a, others = network(0), [network(seed) for seed in (1, 2, 3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
    together = jax.vmap(lambda b: compare(a, b, *inputs))(stacked)
    for number, b in enumerate(others):
        jax.tree.map(
            lambda many, one, n=number: np.testing.assert_allclose(many[n], one, 1e-9),
            together,
            compare(a, b, *inputs),
        )


def test_collapsed_and_broken_networks_are_findings_not_errors(inputs):
    a, b = network(0), network(1)
    collapsed = b | {"v": jnp.zeros((5, 4))}
    found = compare(a, collapsed, *inputs)
    assert jnp.isnan(found.cka)
    assert jnp.isfinite(found.jensen_shannon)
    broken = b | {"v": b["v"].at[0, 0].set(jnp.nan)}
    found = compare(a, broken, *inputs)
    assert all(jnp.isnan(leaf) for leaf in jax.tree.leaves(found))


def test_networks_may_be_nnx_modules():
    module = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    a, b = (nnx.state(nnx.Linear(3, 4, rngs=nnx.Rngs(seed))) for seed in (1, 2))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(9, 3)), jnp.float32)
    plain = [nnx.to_pure_dict(state) for state in (a, b)]
    wanted = c.difference(lambda v, x: x @ v["kernel"] + v["bias"], *plain, x)
    chex.assert_trees_all_close(c.difference(module, a, b, x), wanted, rtol=1e-6)
