"""Repaired combinations have the statistics that they should."""

# Flax cannot say what a network returns.
# pyright: reportCallIssue=false
# pyright: reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from combinability import (
    channel_statistics,
    combine,
    corrected,
    evaluate,
    fold_corrections,
    repair,
    reset_batch_norm,
    uniform,
)

X = jax.random.normal(jax.random.key(0), (48, 6, 6, 2))


class Network(nn.Module):
    """Convolutions with and without bias, a normalisation, dense layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(5, (3, 3))(x))
        x = nn.LayerNorm()(nn.Conv(4, (2, 2), strides=2, use_bias=False)(x))
        x = nn.Dense(8)(nn.relu(x).reshape(len(x), -1))
        return nn.Dense(3)(nn.relu(x))


class Twin(nnx.Module):
    """The same network as an NNX module, with a random state besides."""

    def __init__(self, rngs):
        self.Conv_0 = nnx.Conv(2, 5, (3, 3), rngs=rngs)
        self.Conv_1 = nnx.Conv(5, 4, (2, 2), strides=2, use_bias=False, rngs=rngs)
        self.LayerNorm_0 = nnx.LayerNorm(4, rngs=rngs)
        self.Dropout_0 = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.Dense_0 = nnx.Linear(36, 8, rngs=rngs)
        self.Dense_1 = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.LayerNorm_0(self.Conv_1(nnx.relu(self.Conv_0(x))))
        x = self.Dense_0(self.Dropout_0(nnx.relu(x)).reshape(len(x), -1))
        return self.Dense_1(nnx.relu(x))


class Plain(nn.Module):
    """Wide dense layers without normalisation: their averages collapse."""

    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            x = nn.relu(nn.Dense(256, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(10)(x)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for features in (6, 4):
            x = nn.Conv(features, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return x.mean((1, 2))


@partial(jax.jit, static_argnums=0)
def start(module, seed, x):
    return module.init(jax.random.key(seed), x)


def networks(module, x=X):
    return [start(module, seed, x[:1]) for seed in (1, 2)]


# Compiled, as where many combinations are repaired: one by one, the operations of
# every layer are a program each.


@partial(jax.jit, static_argnums=0)
def statistics(module, variables, x):
    return channel_statistics(module.apply, variables, x)


@partial(jax.jit, static_argnums=0, static_argnames="layers")
def corrections(module, middle, a, b, x, layers=lambda path: True):
    return repair(module.apply, middle, a, b, x, layers=layers)


@partial(jax.jit, static_argnums=0)
def repaired_outputs(module, fixed, variables, x):
    return corrected(module.apply, fixed)(variables, x)


@partial(jax.jit, static_argnums=0)
def repaired_statistics(module, fixed, variables, x):
    return channel_statistics(corrected(module.apply, fixed), variables, x)


@pytest.fixture(scope="module")
def pair():
    return networks(Network())


def assert_close(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()
    for path, of_layer in found.items():
        for x, y in zip(of_layer, expected[path], strict=True):
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("t", [0.3, 0.5, 1.2])
def test_every_channel_lies_between_those_of_the_parents(pair, t):
    a, b = pair
    middle = combine(a, b, t)
    fixed = corrections(Network(), middle, a, b, X)
    found = repaired_statistics(Network(), fixed, middle, X)
    target = jax.tree.map(
        lambda x, y: (1 - t) * np.asarray(x) + t * np.asarray(y),
        statistics(Network(), a, X),
        statistics(Network(), b, X),
    )
    target = {path: (s.mean, abs(s.deviation)) for path, s in target.items()}
    assert_close(found, target)


@pytest.mark.parametrize(("t", "end"), [(0.0, 0), (1.0, 1)])
def test_a_parent_needs_no_repair(pair, t, end):
    fixed = corrections(Network(), combine(*pair, t), *pair, X)
    assert list(fixed) == ["Conv_0", "Conv_1", "Dense_0", "Dense_1"]
    for scale, shift in fixed.values():
        np.testing.assert_allclose(scale, 1, atol=2e-5)
        np.testing.assert_allclose(shift, 0, atol=2e-5)
    y = repaired_outputs(Network(), fixed, pair[end], X)
    expected = jax.jit(Network().apply)(pair[end], X)
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_every_channel_has_its_own_coefficient(pair):
    a, b = pair
    chosen = {"Conv_0": [0.1, 0.3, 0.5, 0.7, 0.9], "Dense_1": [0.0, 0.5, 1.0]}
    coefficients = jax.tree.map(lambda x: jnp.full((), 0.5), a)
    for path, values in chosen.items():
        for name in ("kernel", "bias"):
            coefficients["params"][path][name] = jnp.array(values)
    middle = combine(a, b, coefficients)
    fixed = corrections(Network(), middle, a, b, X)
    found = repaired_statistics(Network(), fixed, middle, X)
    of_a, of_b = (statistics(Network(), v, X) for v in (a, b))
    for path, values in chosen.items():
        t = np.array(values)
        target = (1 - t) * np.asarray(of_a[path].deviation)
        target += t * np.asarray(of_b[path].deviation)
        np.testing.assert_allclose(found[path].deviation, target, rtol=1e-4)


def test_a_collapse_of_variance_is_removed():
    x = np.random.default_rng(3).normal(size=(200, 20)).astype(np.float32)
    a, b = networks(Plain(), x)
    middle = combine(a, b, 0.5)
    last = "Dense_4"
    deviations = [
        np.mean(statistics(Plain(), v, x)[last].deviation) for v in (a, b, middle)
    ]
    wanted = np.mean(deviations[:2])
    assert deviations[2] < 0.3 * wanted
    fixed = corrections(Plain(), middle, a, b, x)
    y = np.asarray(repaired_outputs(Plain(), fixed, middle, x))
    np.testing.assert_allclose(y.std(0).mean(), wanted, rtol=1e-3)


def test_folding_gives_the_corrected_function(pair):
    a, b = pair
    middle = combine(a, b, 0.4)
    # The other convolution has no bias.
    fixed = corrections(Network(), middle, a, b, X, layers=lambda p: p != "Conv_1")
    folded = fold_corrections(middle, fixed)
    assert jax.tree.structure(folded) == jax.tree.structure(middle)
    np.testing.assert_allclose(
        jax.jit(Network().apply)(folded, X),
        repaired_outputs(Network(), fixed, middle, X),
        rtol=1e-4,
        atol=1e-4,
    )


def test_constant_channels_and_equal_weights_are_left_finite(pair):
    zero = jax.tree.map(jnp.zeros_like, pair[0])
    for a, b in ((pair[0], pair[0]), (zero, zero), (pair[0], zero)):
        fixed = corrections(Network(), combine(a, b, 1.0), a, b, X)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fixed))


def test_only_the_chosen_layers_are_corrected(pair):
    fixed = jax.eval_shape(
        lambda v: repair(Network().apply, v, *pair, X, layers=lambda p: "Conv" in p),
        pair[0],
    )
    assert list(fixed) == ["Conv_0", "Conv_1"]


def test_repair_runs_in_a_metric_side_by_side(pair):
    a, b = pair
    ends = statistics(Network(), a, X), statistics(Network(), b, X)
    apply = Network().apply

    def metric(variables):
        fixed = repair(apply, variables, a, b, X, statistics=ends)
        return corrected(apply, fixed)(variables, X).std(0)

    options = {"key": jax.random.key(1), "samples": 3}
    options["devices"] = jax.local_devices()[:1]
    found = evaluate(metric, a, b, uniform(), batch_size=3, **options)

    @jax.jit
    def expected(index):
        return metric(combine(a, b, uniform().sample(index, a, key=options["key"])))

    for i, value in enumerate(found):
        np.testing.assert_allclose(value, expected(i), rtol=1e-3)


def test_an_nnx_module_is_repaired_as_its_linen_twin(pair):
    module = Twin(nnx.Rngs(0))
    a, b = (nnx.state(nnx.clone(module), nnx.Param) for _ in pair)
    for state, variables in zip((a, b), pair, strict=True):
        nnx.replace_by_pure_dict(state, variables["params"])
    middle, twin = combine(a, b, 0.4), combine(*pair, 0.4)

    @jax.jit
    def run(middle, a, b):
        fixed = repair(module, middle, a, b, X)
        return fixed, corrected(module, fixed)(middle, X)

    fixed, y = run(middle, a, b)
    expected = corrections(Network(), twin, *pair, X)
    assert_close(fixed, expected, 1e-5)
    of_twin = repaired_outputs(Network(), expected, twin, X)
    np.testing.assert_allclose(y, of_twin, rtol=1e-5, atol=1e-5)
    del fixed["Conv_1"], expected["Conv_1"]  # without a bias
    folded = fold_corrections(middle, fixed)
    assert jax.tree.structure(folded) == jax.tree.structure(middle)
    expected = fold_corrections(twin, expected)["params"]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        nnx.to_pure_dict(folded),
        expected,
    )
    nnx.update(module, folded)  # the module itself was left as it is
    assert type(module.Dense_0) is nnx.Linear


@jax.jit
def train(variables, x):
    return Normalised().apply(variables, x, train=True, mutable=["batch_stats"])


@jax.jit
def preactivations(variables, x):
    """What each BatchNorm is given in training mode."""
    given = {}

    def interceptor(next_function, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            given[context.module.name] = args[0]
        return next_function(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        Normalised().apply(variables, x, train=True, mutable=["batch_stats"])
    return given


@jax.jit
def reset_on(variables, batches):
    return reset_batch_norm(train, variables, batches)


def test_reset_statistics_are_those_of_all_batches_pooled():
    middle = combine(*networks(Normalised()), 0.5)
    batches = 3 * X.reshape(4, 12, *X.shape[1:]) + 5
    found = reset_on(middle, batches)
    given = [preactivations(middle, x) for x in batches]
    for name, statistics in found["batch_stats"].items():
        rows = np.concatenate([np.asarray(of[name], float) for of in given])
        np.testing.assert_allclose(
            statistics["mean"], rows.mean((0, 1, 2)), rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(statistics["var"], rows.var((0, 1, 2)), rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, found["params"], middle["params"])


def test_with_one_batch_evaluation_is_training():
    middle = combine(*networks(Normalised()), 0.5)
    y = jax.jit(Normalised().apply)(reset_on(middle, X[None]), X)
    np.testing.assert_allclose(y, train(middle, X)[0], rtol=1e-4, atol=1e-5)


def test_statistics_are_reset_in_a_metric_side_by_side():
    a, b = networks(Normalised())
    found = evaluate(
        lambda v: reset_batch_norm(train, v, X[None])["batch_stats"], a, b, uniform(),
        key=jax.random.key(0), samples=2, batch_size=2, devices=jax.local_devices()[:1],
    )  # fmt: skip
    drawn = uniform().sample(1, a, key=jax.random.key(0))
    expected = reset_on(combine(a, b, drawn), X[None])["batch_stats"]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-3, atol=1e-5),
        found,
        expected,
    )
