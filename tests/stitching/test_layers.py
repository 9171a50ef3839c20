"""Stitching layers stay in their classes at every step and start where told."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import polar
from scipy.optimize import linear_sum_assignment

import stitching
from stitching import layers
from stitching.layers._layers import assignment, cayley

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = np.tanh(X @ RNG.normal(size=(6, 6))).astype(np.float32) + 0.1 * X[:, ::-1]
RATE = 0.1
MASK = (np.add.outer(np.arange(6), np.arange(6)) % 2).astype(np.float32)
EPS = float(np.finfo(np.float32).eps)


@partial(jax.jit, static_argnums=0)
def init(layer: Any, activation: Any = X, seed: Any = 0) -> Any:
    return layer.init(jax.random.key(seed), activation)


@partial(jax.jit, static_argnums=0)
def start(layer, fit):
    """Variables from the fit, and the weight that the layer then has."""
    variables = layers.from_fit(layer, fit)
    return variables, layer.fit(variables).weight


@partial(jax.jit, static_argnums=0)
def mapped(layer, variables, x):
    """What comes out, and the map as an array."""
    return layer.apply(variables, x), layer.fit(variables)


assign = jax.jit(assignment)
rotation = jax.jit(cayley)
moments = jax.jit(stitching.moments)
least_squares = jax.jit(stitching.least_squares)
orthogonal = jax.jit(stitching.orthogonal, static_argnames="scale")
sparse = jax.jit(stitching.sparse)
semi_matching = jax.jit(stitching.semi_matching)


@partial(jax.jit, static_argnames="rank")
def reduced_rank(seen, rank):
    return stitching.reduced_rank(seen).rank(rank)


def loss(layer, params, fixed, x, y):
    return ((layer.apply({"params": params, "fixed": fixed}, x) - y) ** 2).mean()


@partial(jax.jit, static_argnums=0)
def gradient(layer, params):
    return jax.grad(partial(loss, layer))(params, {}, X, Y[:, :4])


def train(layer, x, y, optimizer=None, steps=50):
    """The losses and the weights of all steps, and the last variables."""
    variables = init(layer, x)
    optimizer = optimizer or optax.adam(RATE)
    fixed = variables.get("fixed", {})

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(partial(loss, layer))(params, fixed, x, y)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        weight = layer.fit({"params": params, "fixed": fixed}).weight
        return (params, state), (value, weight)

    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)

    (params, _), (values, weights) = jax.jit(run)(variables["params"])
    return np.asarray(values), np.asarray(weights), {"params": params, "fixed": fixed}


def is_matching(weights, one_to_one=True):
    assert np.isin(weights, [0, 1]).all()
    assert (weights.sum(axis=1) <= 1).all()
    if one_to_one:
        assert (weights.sum(axis=2) <= 1).all()
        assert (weights.sum(axis=(1, 2)) == min(weights.shape[1:])).all()


@pytest.mark.parametrize(("p", "q"), [(6, 4), (4, 6)])
def test_orthogonal_stays_so_to_rounding(p, q):
    values, weights, _ = train(layers.Orthogonal(q), X[:, :p], Y[:, :q])
    grams = weights if p >= q else weights.swapaxes(1, 2)
    grams = np.einsum("tij,tik->tjk", *[grams.astype(float)] * 2)
    assert np.abs(grams - np.eye(min(p, q))).max() < 10 * EPS
    assert values[-1] < 0.9 * values[0]
    assert np.abs(weights[-1] - weights[0]).max() > 0.1


@pytest.mark.parametrize("size", [5, 40])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1000.0])
def test_any_generator_gives_a_rotation(size, scale):
    skew = scale * np.random.default_rng(1).normal(size=(size, size))
    turn = np.asarray(rotation((skew - skew.T).astype(np.float32) / 2), float)
    assert np.abs(turn.T @ turn - np.eye(size)).max() < 10 * EPS
    assert np.linalg.det(turn) == pytest.approx(1, abs=1e-4)


def test_scaled_orthogonal_stays_a_multiple_of_an_orthogonal_map():
    _, weights, _ = train(layers.Orthogonal(4, scaled=True), X, Y[:, :4])
    values = np.linalg.svd(weights, compute_uv=False)
    np.testing.assert_allclose(values, values[:, :1].repeat(4, axis=1), rtol=10 * EPS)
    assert np.ptp(values[:, 0]) > 0.1


def test_orthogonal_learns_a_hidden_rotation():
    skew = RNG.normal(size=(6, 6))
    turn = np.asarray(rotation(skew - skew.T), np.float32)
    layer = layers.Orthogonal(6, kernel_init=layers.identity)
    values, weights, _ = train(layer, X, X @ turn, optax.adam(0.03), steps=400)
    assert values[-1] < 1e-3 * values[0]
    np.testing.assert_allclose(weights[-1], turn, atol=0.05)


def test_low_rank_stays_of_its_rank():
    values, weights, _ = train(layers.LowRank(4, rank=2), X, Y[:, :4])
    singular = np.linalg.svd(weights.astype(float), compute_uv=False)
    assert (singular[:, 2:] < 10 * EPS * singular[:, :1]).all()
    assert (singular[:, 1] > 1e-3 * singular[:, 0]).all()
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("p", [4, 6])
def test_low_rank_trains_from_a_fit_of_lower_rank_to_its_own(rank, p):
    """Which starts at the fit: every rank has a gradient, none of the map changes."""
    fit = reduced_rank(moments(X[:, :p], Y[:, :4]), rank)
    layer: Any = layers.LowRank(4, rank=3)
    variables, weight = start(layer, fit)
    np.testing.assert_allclose(weight, fit.weight, atol=2e-6)

    def error(params):
        return ((layer.apply({"params": params}, X[:, :p]) - Y[:, :4]) ** 2).mean()

    @jax.jit
    def advance(params):
        pull = jax.grad(error)(params)
        return jax.tree.map(lambda param, pull: param - 0.1 * pull, params, pull)

    params = variables["params"]
    for _ in range(300):
        params = advance(params)
    singular = np.linalg.svd(layer.fit({"params": params}).weight, compute_uv=False)
    assert (singular[:3] > 0.05).all()
    assert error(params) < error(variables["params"])


def test_masked_stays_zero_outside_its_mask():
    mask = jax.nn.initializers.constant(MASK[:, :4])
    layer = layers.MaskedAffine(4, mask_init=mask)
    optimizer = optax.adamw(RATE, weight_decay=0.1)
    values, weights, _ = train(layer, X, Y[:, :4], optimizer)
    assert (weights[:, MASK[:, :4] == 0] == 0).all()
    assert (weights[-1][MASK[:, :4] == 1] != weights[0][MASK[:, :4] == 1]).all()
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize(
    ("p", "q", "one_to_one"), [(6, 4, True), (4, 6, True), (6, 4, False)]
)
def test_matching_stays_one(p, q, one_to_one):
    layer = layers.Matching(q, one_to_one=one_to_one)
    _, weights, _ = train(layer, X[:, :p], Y[:, :q])
    is_matching(weights, one_to_one)
    if not one_to_one:
        assert (weights.sum(axis=1) == 1).all()
    assert (weights[0] != weights[-1]).any()


@pytest.mark.parametrize("one_to_one", [True, False])
def test_matching_learns_a_hidden_permutation(one_to_one):
    index = np.random.default_rng(4).permutation(6)
    layer = layers.Matching(6, one_to_one=one_to_one)
    values, weights, _ = train(layer, X, X[:, index] + 1, steps=200)
    np.testing.assert_array_equal(weights[-1], np.eye(6)[:, index])
    assert values[-1] < 1e-3


def test_fixed_matching_trains_only_its_bias():
    layer = layers.FixedMatching(6, kernel_init=layers.random_permutation)
    values, weights, _ = train(layer, X, Y + 1)
    is_matching(weights)
    assert (weights == weights[0]).all()
    assert values[-1] < values[0]


def test_sparse_has_exact_zeros_that_come_and_go():
    layer = layers.Sparse(4, penalty=0.05)
    optimizer = optax.chain(optax.adam(RATE), layer.proximal(RATE))
    values, weights, variables = train(layer, X, Y[:, :4], optimizer)
    zeros = (weights == 0).sum(axis=(1, 2))
    assert zeros[0] < zeros[-1] < 24
    assert ((weights[:-1] == 0) & (weights[1:] != 0)).any()
    assert variables["params"]["bias"].all()
    assert values[-1] < 0.9 * values[0]


@pytest.mark.usefixtures("x64")
def test_the_proximal_step_behind_gradient_descent_finds_the_lasso():
    x, y = X.astype(float), Y[:, :4].astype(float)
    seen = moments(x, y)
    expected = jax.jit(partial(stitching.sparse, penalty=0.1, tolerance=1e-10))(seen)
    # The loss is the mean over 4 channels, without the half of the lasso.
    layer = layers.Sparse(4, penalty=0.1 * 2 / 4)
    optimizer = optax.chain(optax.sgd(0.5), layer.proximal(0.5))
    _, weights, variables = train(layer, x, y, optimizer, steps=3000)
    np.testing.assert_allclose(weights[-1], expected.weight, atol=1e-8)
    np.testing.assert_array_equal(weights[-1] == 0, expected.weight == 0)
    np.testing.assert_allclose(variables["params"]["bias"], expected.bias, atol=1e-8)


def test_the_proximal_step_follows_a_schedule_and_a_mask():
    rates = optax.piecewise_constant_schedule(1.0, {1: 0.0})
    mask = {"kernel": False, "bias": True}
    step = layers.proximal_l1(0.5, rates, mask=mask)
    params = {"kernel": jnp.ones(2), "bias": jnp.array([0.25, 2.0])}
    state, still = step.init(params), jax.tree.map(jnp.zeros_like, params)
    for expected in ([0.0, 1.5], [0.0, 1.5]):
        updates, state = step.update(still, state, params)
        params: Any = optax.apply_updates(params, updates)
        assert params["bias"].tolist() == expected
        assert params["kernel"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "boxed",
    [nnx.Param, lambda kernel: nn.Partitioned(kernel, ("a", "b"))],
    ids=["NNX", "Linen"],
)
def test_the_proximal_step_finds_kernels_in_boxes(boxed):
    params: Any = {
        "layer": {"kernel": boxed(jnp.full((2, 2), 0.25)), "bias": jnp.full(2, 0.25)}
    }
    step = layers.proximal_l1(0.5, 1.0)
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = step.update(still, step.init(params), params)
    landed: Any = optax.apply_updates(params, updates)["layer"]
    assert not np.concatenate(jax.tree.leaves(landed["kernel"])).any()
    assert landed["bias"].tolist() == [0.25, 0.25]


def test_penalties_may_be_vmapped():
    params = {"kernel": jnp.array([0.1, -0.3, 1.0])}

    def zeros(penalty):
        step = layers.proximal_l1(penalty, 1.0)
        updates, _ = step.update({"kernel": jnp.zeros(3)}, step.init(params), params)
        landed: Any = optax.apply_updates(params, updates)
        return (landed["kernel"] == 0).sum()

    assert jax.jit(jax.vmap(zeros))(jnp.array([0.0, 0.2, 0.5, 2.0])).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_the_gradient_goes_straight_through_a_matching():
    layer = layers.Matching(4)
    variables = init(layer)
    through = gradient(layer, variables["params"])
    dense, _ = start(layers.Affine(4), mapped(layer, variables, X)[1])
    expected = gradient(layers.Affine(4), dense["params"])
    np.testing.assert_allclose(through["scores"], expected["kernel"], rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), shape=st.sampled_from([(5, 5), (5, 3), (3, 5)]))
def test_the_assignment_under_jit_is_that_of_scipy(seed, shape):
    scores = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    expected = np.zeros(shape)
    expected[rows, columns] = 1
    np.testing.assert_array_equal(assign(scores), expected)


def test_scores_that_are_not_finite_end_in_some_matching():
    scores = jnp.full((5, 5), jnp.nan).at[0, 0].set(jnp.inf)
    is_matching(np.asarray(assign(scores))[None])


# Layers

SEEN = moments(X, Y)
WITHIN = {
    "affine": (layers.Affine(6), least_squares),
    "sparse": (layers.Sparse(6, penalty=0.1), lambda m: sparse(m, 0.1)),
    "masked": (layers.MaskedAffine(6), lambda m: sparse(m, 0.1)),
    "low rank": (layers.LowRank(6, rank=2), lambda m: reduced_rank(m, 2)),
    "orthogonal": (layers.Orthogonal(6), orthogonal),
    "scaled": (layers.Orthogonal(6, scaled=True), lambda m: orthogonal(m, scale=True)),
    "matching": (layers.Matching(6), stitching.permutation),
    "semi-matching": (layers.Matching(6, one_to_one=False), semi_matching),
    "fixed matching": (layers.FixedMatching(6), semi_matching),
}


@pytest.mark.parametrize("name", WITHIN)
def test_a_layer_starts_at_a_fit_of_its_class(name):
    layer, fitted = WITHIN[name]
    fit = fitted(SEEN)
    variables, weight = start(layer, fit)
    np.testing.assert_allclose(mapped(layer, variables, X)[0], fit(X), atol=1e-5)
    np.testing.assert_allclose(weight, fit.weight, atol=2e-6)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)


@pytest.mark.parametrize(
    ("layer", "fitted"),
    [
        (layers.Orthogonal(4), orthogonal),
        (layers.Matching(4), stitching.permutation),
        (layers.LowRank(4, rank=3), lambda m: reduced_rank(m, 3)),
    ],
)
@pytest.mark.parametrize("p", [3, 6])
def test_so_it_does_between_other_numbers_of_channels(layer, fitted, p):
    fit = fitted(moments(X[:, :p], Y[:, :4]))
    variables, weight = start(layer, fit)
    np.testing.assert_allclose(weight, fit.weight, atol=2e-6)
    np.testing.assert_array_equal(variables["params"]["bias"], fit.bias)


def test_from_another_fit_it_starts_at_the_nearest_member():
    fit = least_squares(SEEN)
    weight = np.asarray(fit.weight)

    def nearest(layer):
        return start(layer, fit)[1]

    np.testing.assert_allclose(
        nearest(layers.Orthogonal(6)), polar(weight)[0], atol=1e-5
    )
    u, s, v = np.linalg.svd(weight)
    truncated = (u[:, :3] * s[:3]) @ v[:3]
    np.testing.assert_allclose(nearest(layers.LowRank(6, rank=3)), truncated, atol=1e-5)
    rows, columns = linear_sum_assignment(weight, maximize=True)
    assert np.asarray(nearest(layers.Matching(6)))[rows, columns].all()
    best = np.asarray(nearest(layers.Matching(6, one_to_one=False))).argmax(axis=0)
    np.testing.assert_array_equal(best, weight.argmax(axis=0))
    mask = jax.nn.initializers.constant(MASK)
    np.testing.assert_array_equal(
        nearest(layers.MaskedAffine(6, mask_init=mask)), weight * MASK
    )


def test_a_target_without_a_source_stays_without_one():
    fit = stitching.permutation(moments(X[:, :4], Y))
    layer = layers.FixedMatching(6)
    np.testing.assert_array_equal(start(layer, fit)[1], fit.weight)


def test_the_support_of_a_sparse_fit_is_the_mask():
    fit = sparse(SEEN, 0.2)
    variables, _ = start(layers.MaskedAffine(6), fit)
    np.testing.assert_array_equal(variables["fixed"]["mask"], fit.weight != 0)
    assert 0 < variables["fixed"]["mask"].sum() < 36


def test_starts_may_be_vmapped():
    path = jax.jit(stitching.sparse_path)(SEEN, jnp.array([0.5, 0.1]))
    layer: Any = layers.Affine(6)
    variables = jax.jit(jax.vmap(partial(layers.from_fit, layer)))(path)
    many = jax.jit(jax.vmap(layer.apply, (0, None)))(variables, X)
    expected = X @ np.asarray(path.weight) + np.asarray(path.bias)[:, None]
    np.testing.assert_allclose(many, expected, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Affine(6),
        layers.Orthogonal(6),
        layers.LowRank(6, rank=6),
        layers.Matching(6),
        layers.FixedMatching(6),
    ],
)
def test_it_may_start_at_the_identity(layer: Any):
    layer = layer.clone(kernel_init=layers.identity)
    out, _ = mapped(layer, init(layer), X)
    np.testing.assert_allclose(out, X, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)])
def test_random_permutations_are_matchings_that_differ(shape):
    keys = jax.random.split(jax.random.key(0), 600)
    many = jax.jit(jax.vmap(lambda key: layers.random_permutation(key, shape)))(keys)
    is_matching(np.asarray(many))
    np.testing.assert_allclose(many.mean(axis=0), 1 / 6 + 0 * many[0], atol=0.06)


@pytest.mark.parametrize("name", WITHIN)
def test_random_starts_are_members_that_differ_between_keys(name):
    layer, _ = WITHIN[name]
    one, other = (mapped(layer, init(layer, X, s), X)[1].weight for s in (0, 1))
    assert jnp.abs(one - other).max() > 0.1


@pytest.mark.parametrize("layer", [layers.Affine(4), layers.LowRank(4, rank=2)])
@pytest.mark.parametrize("leading", [(), (2,), (2, 5), (2, 3, 3)])
def test_any_activation_is_mapped_position_by_position(layer, leading):
    activation = X[: max(1, int(np.prod(leading)))].reshape(*leading, 6)
    variables = init(layer)
    out, fit = mapped(layer, variables, activation)
    expected = activation.reshape(-1, 6) @ np.asarray(fit.weight) + fit.bias
    assert out.shape == (*leading, 4)
    np.testing.assert_allclose(out.reshape(-1, 4), expected, atol=1e-5)


# Shapes


def test_a_layer_converts_shapes_in_front():
    layer: Any = layers.Affine(
        3, convert=partial(layers.resize, size=(2, 2), method="nearest")
    )
    maps = jnp.asarray(RNG.normal(size=(2, 4, 4, 6)), jnp.float32)
    variables = layer.init(jax.random.key(0), maps)
    expected = layer.fit(variables)(layers.resize(maps, (2, 2), method="nearest"))
    out = layer.apply(variables, maps)
    assert out.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    started = layers.from_fit(layer, layer.fit(variables))
    np.testing.assert_allclose(layer.apply(started, maps), out, atol=1e-6)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_maps_are_resized_channel_by_channel(leading):
    maps = jnp.asarray(RNG.normal(size=(*leading, 4, 6, 5)), jnp.float32)
    out = layers.resize(maps, (8, 3), method="linear")
    alone = jax.image.resize(maps[..., 2], (*leading, 8, 3), "linear")
    assert out.shape == (*leading, 8, 3, 5)
    np.testing.assert_allclose(out[..., 2], alone, atol=1e-6)


def test_maps_become_tokens_and_maps_again():
    maps = jnp.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    tokens = layers.map_to_tokens(maps, class_token="none")
    np.testing.assert_array_equal(tokens[:, 4 * 2 + 1], maps[:, 2, 1])
    again = layers.tokens_to_map(tokens, (3, 4), class_token="none")
    np.testing.assert_array_equal(again, maps)
    for first in ("mean", "zeros"):
        more = layers.map_to_tokens(maps, class_token=first)
        assert more.shape == (2, 13, 5)
        again = layers.tokens_to_map(more, (3, 4), class_token="drop")
        np.testing.assert_array_equal(again, maps)
        expected = maps.mean(axis=(1, 2)) if first == "mean" else 0 * maps[:, 0, 0]
        np.testing.assert_allclose(more[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("kept", [0, 1])
def test_tokens_are_resized_as_maps_beside_the_class_token(kept):
    tokens = jnp.asarray(RNG.normal(size=(2, 16 + kept, 5)), jnp.float32)
    out = layers.resize_tokens(
        tokens,
        (4, 4),
        (2, 3),
        method="linear",
        class_token="keep" if kept else "none",
    )
    maps = layers.resize(tokens[:, kept:].reshape(2, 4, 4, 5), (2, 3), method="linear")
    assert out.shape == (2, 6 + kept, 5)
    np.testing.assert_array_equal(out[:, :kept], tokens[:, :kept])
    np.testing.assert_allclose(out[:, kept:], maps.reshape(2, 6, 5), atol=1e-6)
