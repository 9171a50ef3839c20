"""Matching by activations, in one pass over the inputs."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import permutations as permutation
from combinability.matching._activations import activation_matching
from combinability.matching._match import weight_matching
from combinability.matching._moments import stream, views_of
from combinability.symmetry import carriers, infer_symmetry, observe
from tests.combinability.families import FAMILIES

KEY = jax.random.key(0)
SIMILARITIES = ("inner", "correlation")

similarities = pytest.mark.parametrize("similarity", SIMILARITIES)


@functools.cache
def inferred(name):
    family = FAMILIES[name]()
    symmetry = infer_symmetry(
        family.apply, family.variables, *family.inputs, certify=False
    )
    return family, symmetry


def drawn(tree, seed):
    """Normal numbers in place of the floats of a tree; the integers stay."""
    rng = np.random.default_rng(seed)

    def leaf(x):
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(rng.normal(size=x.shape), x.dtype) if floating else x

    return jax.tree.map(leaf, tree)


def batches_of(family, count):
    return [drawn(family.inputs, seed) for seed in range(count)]


def mlp(v, x):
    hidden = jax.nn.relu(x @ v["in"] + v["b"])
    return jnp.tanh(hidden @ v["mid"]) @ v["out"]


def mlp_weights(seed, units=4):
    shapes = {"in": (3, units), "b": (units,), "mid": (units, 5), "out": (5, 2)}
    return drawn({n: jnp.zeros(shape) for n, shape in shapes.items()}, seed)


@functools.cache
def mlp_symmetry(samples):
    return infer_symmetry(mlp, mlp_weights(0), jnp.zeros((samples, 3)), certify=False)


@similarities
@pytest.mark.parametrize(
    "name",
    [
        "mlp_with_biases_and_layer_norm",
        "vgg_with_layer_norm",
        "attention_by_reshape",  # head sizes within heads
        "gru",
    ],
)
def test_a_planted_permutation_is_recovered(name, similarity):
    family, symmetry = inferred(name)
    planted = permutation.random(jax.random.key(1), symmetry)
    b = symmetry.apply(planted, family.variables)
    found = activation_matching(
        symmetry,
        family.variables,
        b,
        batches_of(family, 4),
        key=KEY,
        similarity=similarity,
    )
    inverse = permutation.invert(symmetry, planted)
    for group, index in inverse.items():
        np.testing.assert_array_equal(found.permutation[group], index, err_msg=group)


@similarities
@pytest.mark.parametrize(
    "name",
    [
        "attention_by_reshape",  # head sizes within heads
        "alibi",  # within heads that stay
        "bilinear_layer",  # two groups on one value
    ],
)
def test_the_objective_is_that_of_the_observed_activations(name, similarity, x64):
    """Two unrelated networks; the activations of the moved one are observed."""
    family = FAMILIES[name]()
    raised = jax.tree.map(lambda x: x.astype(float), (family.variables, family.inputs))
    symmetry = infer_symmetry(family.apply, raised[0], *raised[1], certify=False)
    a, b = drawn(raised[0], 1), drawn(raised[0], 2)
    batches = [drawn(raised[1], seed) for seed in (3, 4)]
    found = activation_matching(symmetry, a, b, batches, key=KEY, similarity=similarity)
    moved = symmetry.apply(found.permutation, b)
    seen = [[observe(symmetry, net, *x) for x in batches] for net in (a, moved)]
    expected = 0.0
    for number, carrier in enumerate(carriers(symmetry)):
        sampled = tuple(i for i, n in enumerate(carrier.block.labels) if n is None)
        x, y = (np.stack([batch[number] for batch in net]) for net in seen)
        axes = (0, *(i + 1 for i in sampled))
        if similarity == "correlation":
            x, y = ((z - z.mean(axes, keepdims=True)) for z in (x, y))
            x, y = (z / z.std(axes, keepdims=True) for z in (x, y))
        expected += (x * y).mean(axes).sum()
    np.testing.assert_allclose(float(found.objective), expected, rtol=1e-10)
    assert (np.diff(found.history) >= 0).all()


def grid(v, x):
    """Rows and columns of hidden units permute, each on its own."""
    h = jnp.einsum("nc,cij->nij", x, v["in"])
    h = h - h.mean(1, keepdims=True) + jnp.tanh(h.mean(2, keepdims=True))
    return jnp.einsum("nij,ijo->no", jnp.tanh(h), v["out"])


def test_rows_and_columns_are_found_together():
    """With noise; coordinate descent from the identity alone misses both of these."""
    x = drawn(jnp.zeros((64, 6)), 0)
    zeros = {"in": jnp.zeros((6, 8, 9)), "out": jnp.zeros((8, 9, 2))}
    symmetry = infer_symmetry(grid, zeros, x, certify=False)
    for seed in (1, 3):
        a, noise = drawn(zeros, seed), drawn(zeros, 100 + seed)
        planted = permutation.random(jax.random.key(seed), symmetry)
        b = symmetry.apply(planted, jax.tree.map(jnp.add, a, noise))
        found = activation_matching(symmetry, a, b, [x], key=KEY)
        for name, index in permutation.invert(symmetry, planted).items():
            np.testing.assert_array_equal(found.permutation[name], index)


@similarities
def test_no_other_permutation_of_a_small_network_does_better(similarity, x64):
    symmetry = infer_symmetry(mlp, mlp_weights(0), jnp.zeros((9, 3)), certify=False)
    a, b = mlp_weights(1), mlp_weights(2)
    x = drawn(jnp.zeros((9, 3)), 3)
    found = activation_matching(symmetry, a, b, [x], key=KEY, similarity=similarity)
    values = zip(observe(symmetry, a, x), observe(symmetry, b, x), strict=True)
    best = 0.0
    for of_a, of_b in values:
        if similarity == "correlation":
            of_a, of_b = (z - z.mean(0) for z in (of_a, of_b))
            products = of_a.T @ of_b / 9
            products /= np.outer(of_a.std(0), of_b.std(0)) + 1e-300
        else:
            products = np.asarray(of_a.T @ of_b) / 9
        orders = itertools.permutations(range(len(products)))
        best += max(sum(products[i, j] for i, j in enumerate(p)) for p in orders)
    np.testing.assert_allclose(float(found.objective), best, rtol=1e-10)


@pytest.mark.parametrize("parts", [2, 6])
def test_many_batches_equal_one(parts, x64):
    a, b = mlp_weights(1), mlp_weights(2)
    x = drawn(jnp.zeros((24, 3)), 3) + jnp.linspace(0, 5, 24)[:, None]
    moments = {}
    for count in (1, parts):
        symmetry = infer_symmetry(mlp, a, jnp.zeros((24 // count, 3)), certify=False)
        views = views_of(symmetry, 100)
        split = iter(jnp.split(x, count))
        moments[count] = stream(symmetry, views, a, b, split)
    for one, many in zip(*map(jax.tree.leaves, moments.values()), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-12, atol=1e-12)


def test_correlations_are_accurate_in_float32_despite_a_large_mean():
    """Units around 1000 with deviations near 1, in 32 batches that drift."""

    def apply(v, x):
        return jnp.tanh((x @ v["in"] + 1000) @ v["out"])

    weights = {"in": drawn(jnp.zeros((3, 6)), 0), "out": jnp.ones((6, 1))}
    other = {**weights, "in": drawn(jnp.zeros((3, 6)), 1)}
    batches = [drawn(jnp.zeros((50, 3)), seed) + seed / 32 for seed in range(32)]
    symmetry = infer_symmetry(apply, weights, batches[0], certify=False)
    (moments,) = stream(symmetry, views_of(symmetry, 9), weights, other, batches)
    x = np.concatenate([np.asarray(batch, float) for batch in batches])
    exact = np.corrcoef((x @ weights["in"]).T, (x @ other["in"]).T)[:6, 6:]
    np.testing.assert_allclose(moments.correlation()[0], exact, atol=1e-3)


def test_correlation_ignores_the_scale_of_units():
    a, b = mlp_weights(1, units=8), mlp_weights(2, units=8)
    batches = [drawn(jnp.zeros((8, 3)), seed) for seed in range(3)]
    symmetry = infer_symmetry(mlp, a, batches[0], certify=False)
    scale = jnp.exp(2 * drawn(jnp.zeros(8), 3))
    scaled = {
        **b,
        "in": b["in"] * scale,
        "b": b["b"] * scale,
        "mid": b["mid"] / scale[:, None],
    }

    def match(other, similarity):
        found = activation_matching(
            symmetry, a, other, batches, key=KEY, similarity=similarity
        )
        return {name: index.tolist() for name, index in found.permutation.items()}

    assert match(b, "correlation") == match(scaled, "correlation")
    assert match(b, "inner") != match(scaled, "inner")


def test_dead_units_add_nothing_and_change_no_other_pair():
    symmetry, a = mlp_symmetry(8), mlp_weights(1)
    dead = {**a, "b": jnp.array([1.0, 1.0, -100.0, 1.0])}
    planted = {"in": jnp.array([2, 3, 0, 1]), "mid": jnp.array([4, 0, 1, 2, 3])}
    b = symmetry.apply(planted, dead)
    batches = [drawn(jnp.zeros((8, 3)), seed) for seed in range(3)]
    found = activation_matching(
        symmetry, dead, b, batches, key=KEY, similarity="correlation"
    )
    inverse = permutation.invert(symmetry, planted)
    for name, index in inverse.items():
        np.testing.assert_array_equal(found.permutation[name], index)
    np.testing.assert_allclose(float(found.objective), 3 + 5, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "switch_on_the_hidden_layer",  # values inside of branches are not seen
        "outer_product",  # a group that is twice on its only value
        "branches",  # one group is seen, one is not
    ],
)
def test_groups_that_no_value_carries_are_matched_by_weights(name):
    family, symmetry = inferred(name)
    planted = permutation.random(jax.random.key(1), symmetry)
    a, b = family.variables, symmetry.apply(planted, family.variables)
    found = activation_matching(symmetry, a, b, batches_of(family, 3), key=KEY)
    for group, index in permutation.invert(symmetry, planted).items():
        np.testing.assert_array_equal(found.permutation[group], index, err_msg=group)


def test_values_with_too_many_units_are_left_out():
    """With none left, it is matching by weights, which need not agree."""
    symmetry, a, b = mlp_symmetry(8), mlp_weights(1), mlp_weights(2)
    x = drawn(jnp.zeros((8, 3)), 0)
    by_weights = weight_matching(symmetry, a, b, key=KEY).permutation
    found = activation_matching(symmetry, a, b, [x], key=KEY, max_units=3)
    assert float(found.objective) == 0
    for name, index in by_weights.items():
        np.testing.assert_array_equal(found.permutation[name], index)
    views = views_of(symmetry, 4)
    assert [view.count for view in views] == [4]


def test_a_batch_may_hold_several_inputs_and_come_from_a_generator():
    family, symmetry = inferred("two_inputs")
    b = symmetry.apply({"x": jnp.array([4, 2, 0, 1, 3])}, family.variables)
    found = activation_matching(
        symmetry, family.variables, b, iter(batches_of(family, 4)), key=KEY
    )
    assert found.permutation["x"].tolist() == [2, 3, 1, 4, 0]


@similarities
def test_chosen_groups_are_matched_and_others_held_fixed(similarity):
    """Each layer of an MLP by itself, whatever the other one is."""
    symmetry, a, b = mlp_symmetry(8), mlp_weights(1), mlp_weights(2)
    batches = [drawn(jnp.zeros((8, 3)), seed) for seed in range(3)]
    fixed = {"mid": jnp.array([4, 0, 1, 2, 3])}
    run = functools.partial(
        activation_matching, symmetry, a, b, batches, key=KEY, similarity=similarity
    )
    whole, held, chosen = run(), run(fixed=fixed), run(groups=["in"])
    np.testing.assert_array_equal(held.permutation["mid"], fixed["mid"])
    np.testing.assert_array_equal(chosen.permutation["mid"], np.arange(5))
    for found in (held, chosen):
        np.testing.assert_array_equal(found.permutation["in"], whole.permutation["in"])


def test_equal_calls_do_not_trace_again():
    symmetry = mlp_symmetry(8)
    traced = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: traced.append(event)
    )

    def run(seed):
        batches = [drawn(jnp.zeros((8, 3)), seed + i) for i in range(2)]
        networks = mlp_weights(seed), mlp_weights(seed + 1)
        jax.block_until_ready((batches, networks))
        traced.clear()
        activation_matching(symmetry, *networks, batches, key=jax.random.key(seed))
        return [event for event in traced if "trace" in event]

    run(1)
    assert run(5) == []
