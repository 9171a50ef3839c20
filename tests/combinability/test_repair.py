"""Repaired combinations have the statistics that they should."""

# Flax cannot say what a network returns.
# pyright: reportCallIssue=false
# pyright: reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import FrozenDict, freeze

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


class Mixed(nn.Module):
    """A transposed convolution, attention, a general dense layer; any precision."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        kwargs = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.relu(nn.ConvTranspose(6, (2, 2), (2, 2), use_bias=False, **kwargs)(x))
        x = x.reshape(len(x), -1, 6)
        x = x + nn.MultiHeadDotProductAttention(2, **kwargs)(x)
        x = nn.relu(nn.DenseGeneral((2, 3), **kwargs)(x))
        return nn.DenseGeneral(3, axis=(-2, -1), **kwargs)(x).mean(1)


MIXED = [
    "ConvTranspose_0",
    *(f"MultiHeadDotProductAttention_0/{n}" for n in ("query", "key", "value", "out")),
    "DenseGeneral_0",
    "DenseGeneral_1",
]


class MixedTwin(nnx.Module):
    """The same network as an NNX module."""

    def __init__(self, rngs):
        self.ConvTranspose_0 = nnx.ConvTranspose(
            2, 6, (2, 2), (2, 2), use_bias=False, rngs=rngs
        )
        self.MultiHeadDotProductAttention_0 = nnx.MultiHeadAttention(
            2, 6, decode=False, rngs=rngs
        )
        self.DenseGeneral_0 = nnx.LinearGeneral(6, (2, 3), rngs=rngs)
        self.DenseGeneral_1 = nnx.LinearGeneral((2, 3), 3, axis=(-2, -1), rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.ConvTranspose_0(x)).reshape(len(x), -1, 6)
        x = x + self.MultiHeadDotProductAttention_0(x)
        return self.DenseGeneral_1(nnx.relu(self.DenseGeneral_0(x))).mean(1)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for features in (6, 4):
            x = nn.Conv(features, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return x.mean((1, 2))


class NormalisedTwin(nnx.Module):
    """The same network as an NNX module."""

    def __init__(self, rngs):
        self.Conv_0 = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.Conv_1 = nnx.Conv(6, 4, (3, 3), rngs=rngs)
        self.BatchNorm_0 = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.BatchNorm_1 = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.Dropout_0 = nnx.Dropout(0.0, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.BatchNorm_0(self.Conv_0(x)))
        x = nnx.relu(self.BatchNorm_1(self.Conv_1(self.Dropout_0(x))))
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


def between(of_a, of_b, t):
    """The statistics that a repaired combination should have."""
    target = jax.tree.map(
        lambda x, y: (1 - t) * np.asarray(x) + t * np.asarray(y), of_a, of_b
    )
    return {path: (s.mean, abs(s.deviation)) for path, s in target.items()}


@pytest.mark.parametrize("module", [Network(), Mixed()])
@pytest.mark.parametrize("t", [0.3, 0.5, 1.2])
def test_every_channel_lies_between_those_of_the_parents(module, t):
    a, b = networks(module)
    middle = combine(a, b, t)
    fixed = corrections(module, middle, a, b, X)
    found = repaired_statistics(module, fixed, middle, X)
    target = between(statistics(module, a, X), statistics(module, b, X), t)
    assert_close(found, target)


def test_projections_of_attention_and_transposed_convolutions_are_repaired():
    a, b = networks(Mixed())
    fixed = corrections(Mixed(), combine(a, b, 0.5), a, b, X)
    assert fixed.keys() == set(MIXED)
    shapes = [fixed[path].scale.shape for path in MIXED]
    assert shapes == [(6,), (2, 3), (2, 3), (2, 3), (6,), (2, 3), (3,)]


def test_transposed_kernels_and_einsums_are_left_as_they_are():
    class Others(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.ConvTranspose(4, (2, 2), transpose_kernel=True)(x)
            x = nn.Einsum((4, 5), "...c,cd->...d")(nn.ConvLocal(4, (1, 1))(x))
            return nn.Dense(3)(nn.relu(x))

    a, b = networks(Others())
    fixed = corrections(Others(), combine(a, b, 0.5), a, b, X)
    assert list(fixed) == ["Dense_0"]


def test_a_general_dense_layer_with_batch_axes_is_repaired_and_folded():
    layer = nn.DenseGeneral((2, 5), axis=-1, batch_dims=(0,))
    x = X[:, 0]
    a, b = (layer.init(jax.random.key(seed), x) for seed in (1, 2))
    middle = combine(a, b, 0.4)
    fixed = repair(layer.apply, middle, a, b, x)
    ends = [channel_statistics(layer.apply, v, x) for v in (a, b)]
    folded = fold_corrections(middle, fixed)
    found = channel_statistics(layer.apply, folded, x)
    assert found[""].mean.shape == (2, 5)
    assert_close(found, between(*ends, 0.4))


@pytest.mark.parametrize(
    ("dtype", "size", "offset", "tolerance"),
    [
        # Squares of what the first layers give are beyond the largest number.
        (jnp.float16, 300, 0, 0.004),
        (jnp.float16, 1, 0, 0.004),
        (jnp.float16, 1, 10, 0.01),
        (jnp.bfloat16, 300, 0, 0.03),
        (jnp.bfloat16, 1, 0, 0.03),
        # As near as numbers around ten, which have eight bits, can be.
        (jnp.bfloat16, 1, 10, 0.04),
    ],
)
def test_a_layer_in_half_precision_is_repaired(dtype, size, offset, tolerance):
    layer = nn.DenseGeneral((4, 8), dtype=dtype, param_dtype=dtype)
    x = jnp.asarray(size * jax.random.normal(jax.random.key(0), (2048, 16)), dtype)

    def network(seed):
        params = layer.init(jax.random.key(seed), x)["params"]
        return {"params": {**params, "bias": jnp.full_like(params["bias"], offset)}}

    def outputs(apply, variables):
        return np.asarray(apply(variables, x), np.float64)

    a, b = network(1), network(2)
    middle = combine(a, b, 0.5)
    ends = [outputs(layer.apply, v) for v in (a, b)]
    mean, deviation = sum(y.mean(0) for y in ends) / 2, sum(y.std(0) for y in ends) / 2
    fixed = repair(layer.apply, middle, a, b, x)
    assert {leaf.dtype for leaf in fixed[""]} == {jnp.dtype("float32")}
    found = outputs(corrected(layer.apply, fixed), middle)
    np.testing.assert_allclose(found.std(0), deviation, rtol=tolerance)
    assert np.max(abs(found.mean(0) - mean) / deviation) < tolerance
    folded = fold_corrections(middle, fixed)
    chex.assert_trees_all_equal_dtypes(folded, middle)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_network_in_half_precision_is_repaired(dtype):
    module, x = Mixed(dtype), (60 * X).astype(dtype)
    a, b = networks(module, x)
    middle = combine(a, b, 0.3)
    fixed = corrections(module, middle, a, b, x)
    found = repaired_statistics(module, fixed, middle, x)
    target = between(statistics(module, a, x), statistics(module, b, x), 0.3)
    for path, (mean, deviation) in target.items():
        np.testing.assert_allclose(found[path].deviation, deviation, rtol=0.02)
        assert np.max(abs(found[path].mean - mean) / deviation) < 0.02


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
    folded = fold_corrections(middle, fixed, apply=Network().apply, inputs=X)
    assert jax.tree.structure(folded) == jax.tree.structure(middle)
    np.testing.assert_allclose(
        jax.jit(Network().apply)(folded, X),
        repaired_outputs(Network(), fixed, middle, X),
        rtol=1e-4,
        atol=1e-4,
    )


class Normed(nn.Module):
    """A layer whose kernel is normalised before it is used."""

    wrapper: Any

    @nn.compact
    def __call__(self, x):
        options = {"update_stats": False} if self.wrapper is nn.SpectralNorm else {}
        hidden = self.wrapper(nn.Dense(5))(x.reshape(len(x), -1), **options)
        return nn.Dense(3)(nn.relu(hidden))


class Tied(nn.Module):
    """A decoder with the encoder's kernel."""

    @nn.compact
    def __call__(self, x):
        encoder = nn.Dense(5)
        hidden = nn.relu(encoder(x.reshape(len(x), -1)))
        return hidden @ encoder.variables["params"]["kernel"].T


class TiedTwin(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 4, rngs=rngs)
        self.last = nnx.Linear(4, 4, rngs=rngs)
        self.last.kernel = self.first.kernel

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


@pytest.mark.parametrize(
    "module",
    [Normed(nn.WeightNorm), Normed(nn.SpectralNorm), Tied()],
    ids=["WeightNorm", "SpectralNorm", "tied"],
)
def test_folding_into_a_kernel_that_is_not_used_as_it_is_stored_raises(module):
    x = X[:, :2, :2]
    a, b = (module.init(jax.random.key(seed), x) for seed in (1, 2))
    middle = combine(a, b, 0.5)
    fixed = repair(module.apply, middle, a, b, x)
    with pytest.raises(ValueError, match="that alone use their kernels"):
        fold_corrections(middle, fixed, apply=module.apply, inputs=x)


def test_folding_into_a_kernel_that_layers_of_a_module_share_raises():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 4)), jnp.float32)
    a, b = (nnx.state(TiedTwin(nnx.Rngs(seed))) for seed in (1, 2))
    module, middle = TiedTwin(nnx.Rngs(0)), combine(a, b, 0.5)
    with pytest.raises(ValueError, match="layer 'last' has no kernel of its own"):
        repair(module, middle, a, b, x)
    fixed = repair(module, middle, a, b, x, layers=lambda path: path == "first")
    with pytest.raises(ValueError, match="that alone use their kernels"):
        fold_corrections(middle, fixed, apply=module, inputs=x)


class ByType(nnx.Module):
    """What a layer is decides what is done with its output, and `super()` is called."""

    def __init__(self, rngs):
        class Scaled(nnx.Linear):
            def __call__(self, x):
                return 2 * super().__call__(x)

        layers = [nnx.Linear(4, 4, rngs=rngs), Scaled(4, 4, rngs=rngs)]
        self.layers = nnx.List([*layers, nnx.Linear(4, 3, rngs=rngs)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
            x = x if type(layer) is nnx.Linear else nnx.relu(x)
        return x


def test_layers_of_a_module_keep_their_types_while_it_is_repaired():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 4)), jnp.float32)
    module = ByType(nnx.Rngs(0))
    before, state = nnx.Linear.__call__, nnx.state(module)
    found = channel_statistics(module, state, x)
    assert nnx.Linear.__call__ is before
    first, second, _ = module.layers
    wanted = {"layers/1": second(first(x)), "layers/2": module(x)}
    for path, y in wanted.items():
        np.testing.assert_allclose(found[path].mean, y.mean(0), rtol=1e-5, atol=1e-6)
    fixed = repair(module, state, state, state, x)
    np.testing.assert_allclose(
        corrected(module, fixed)(state, x), module(x), rtol=1e-4, atol=1e-5
    )


class Waiting(nnx.Module):
    """It runs only after something has happened, or has not for a while."""

    def __init__(self, before, after):
        self.layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        self.before, self.after = before, after

    def __call__(self, x):
        self.before.set()
        self.after.wait(0.3)
        return self.layer(x)


def test_modules_may_be_repaired_in_several_threads():
    before = nnx.Linear.__call__
    first, second, done = (threading.Event() for _ in range(3))
    one, other = Waiting(first, second), Waiting(second, done)
    x = jnp.ones((2, 4))

    def statistics_of_one():
        found = channel_statistics(one, nnx.state(one), x)
        done.set()
        return found

    with ThreadPoolExecutor() as threads:
        found = threads.submit(statistics_of_one)
        first.wait()
        assert list(channel_statistics(other, nnx.state(other), x)) == ["layer"]
        assert list(found.result()) == ["layer"]
    assert nnx.Linear.__call__ is before


def test_constant_channels_and_equal_weights_are_left_finite(pair):
    zero = jax.tree.map(jnp.zeros_like, pair[0])
    for a, b in ((pair[0], pair[0]), (zero, zero), (pair[0], zero)):
        fixed = corrections(Network(), combine(a, b, 1.0), a, b, X)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fixed))


def test_gradients_are_right_where_units_are_constant(x64):
    dense = partial(nn.Dense, param_dtype=jnp.float64)
    network = nn.Sequential([dense(4), nn.relu, dense(3)])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 5)))
    a, b = (network.init(jax.random.key(seed), x) for seed in (1, 2))
    first = ("params", "layers_0", "kernel")

    def with_dead(variables, *units):
        def changed(path, leaf):
            names = tuple(key.key for key in path)
            return leaf.at[:, list(units)].set(0) if names == first else leaf

        return jax.tree_util.tree_map_with_path(changed, variables)

    @jax.jit
    @jax.value_and_grad
    def error(t, a, b):
        middle = combine(a, b, t)
        fixed = repair(network.apply, middle, a, b, x)
        return jnp.sum(corrected(network.apply, fixed)(middle, x) ** 2)

    for one, other in (
        (a, b),
        (with_dead(a, 0), b),
        (with_dead(a, 0), with_dead(b, 0)),
    ):
        for t in (0.3, 0.5):
            below, above = (error(t + step, one, other)[0] for step in (-1e-6, 1e-6))
            slope = error(t, one, other)[1]
            np.testing.assert_allclose(slope, (above - below) / 2e-6, rtol=1e-5)


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


def test_an_nnx_module_with_attention_is_repaired_as_its_linen_twin():
    pair, module = networks(Mixed()), MixedTwin(nnx.Rngs(0))
    a, b = (nnx.state(nnx.clone(module), nnx.Param) for _ in pair)
    for state, variables in zip((a, b), pair, strict=True):
        nnx.replace_by_pure_dict(state, variables["params"])
    fixed = jax.jit(lambda *trees: repair(module, *trees, X))(combine(a, b, 0.4), a, b)
    assert fixed.keys() == set(MIXED)
    assert_close(fixed, corrections(Mixed(), combine(*pair, 0.4), *pair, X), 1e-4)


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


def reset_twin(variables, batches, only=...):
    """The state of the NNX twin, or a part of it, as it was and after the reset."""
    module = NormalisedTwin(nnx.Rngs(0))
    state = nnx.state(module)
    values = nnx.to_pure_dict(state)
    for of_layers in variables.values():
        for path, arrays in of_layers.items():
            values[path] = {**values[path], **arrays}
    nnx.replace_by_pure_dict(state, values)
    state = nnx.filter_state(state, only)
    return state, jax.jit(lambda s: reset_batch_norm(module, s, batches))(state)


def test_statistics_of_an_nnx_module_are_reset_as_those_of_its_linen_twin():
    middle = combine(*networks(Normalised()), 0.5)
    batches = 3 * X.reshape(4, 12, *X.shape[1:]) + 5
    expected = reset_on(middle, batches)["batch_stats"]
    state, found = reset_twin(middle, batches)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    statistics = nnx.to_pure_dict(nnx.filter_state(found, nnx.BatchStat))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        statistics,
        expected,
    )
    params = nnx.filter_state(state, nnx.Param)
    chex.assert_trees_all_equal(nnx.filter_state(found, nnx.Param), params)
    # Parameters alone are completed by the statistics.
    _, part = reset_twin(middle, batches, nnx.Param)
    statistics = nnx.filter_state(found, nnx.BatchStat)
    chex.assert_trees_all_close(part, nnx.merge_state(params, statistics), rtol=1e-5)


def test_a_normalisation_that_is_used_twice_has_the_mean_of_its_moving_average():
    """The last batch counts 1 / (1 + decay), the one before it the rest."""

    class Siamese(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(2, momentum=0.8, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.norm(x[:, 0]) - self.norm(x[:, 1])

    x = np.random.default_rng(0).normal(3, 2, (50, 2, 2)).astype(np.float32)
    found = reset_batch_norm(Siamese(), nnx.state(Siamese()), x[None])
    first, last = x.mean(0)
    np.testing.assert_allclose(
        found["norm"]["mean"][...], (0.8 * first + last) / 1.8, rtol=1e-5
    )


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("momentum", [0.9, 0.999])
def test_statistics_of_any_size_are_exact(size, momentum):
    x = np.random.default_rng(0).normal(3, 2, (2, 50, 3)).astype(np.float32) * size
    module = nnx.BatchNorm(3, momentum=momentum, rngs=nnx.Rngs(0))
    found = reset_batch_norm(module, nnx.state(module), jnp.asarray(x))
    rows = x.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found["mean"][...], rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["var"][...], rows.var(0), rtol=1e-4)


def test_a_function_that_cannot_be_hashed_resets_the_same():
    class Unhashable:
        __hash__ = None
        __call__ = staticmethod(train)

    middle, batches = (
        combine(*networks(Normalised()), 0.5),
        X.reshape(4, 12, *X.shape[1:]),
    )
    found = reset_batch_norm(Unhashable(), middle, batches)
    chex.assert_trees_all_close(found, reset_on(middle, batches), rtol=1e-5, atol=1e-6)


def test_frozen_variables_are_reset_and_folded_as_frozen_ones(pair):
    middle = combine(*networks(Normalised()), 0.5)
    found = reset_on(freeze(middle), X[None])
    chex.assert_trees_all_equal(found, freeze(reset_on(middle, X[None])))
    assert isinstance(found, FrozenDict)
    fixed = corrections(Network(), pair[0], *pair, X)
    del fixed["Conv_1"]  # without a bias
    folded = fold_corrections(freeze(pair[0]), fixed)
    chex.assert_trees_all_equal(folded, freeze(fold_corrections(pair[0], fixed)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_kept_in_half_precision_are_rounded_last(dtype):
    norm = nn.BatchNorm(use_running_average=False, momentum=0.99)
    x = 2 + jax.random.normal(jax.random.key(0), (2, 100, 3))
    variables = norm.init(jax.random.key(0), x[0])
    half = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)

    def apply(variables, x):
        return norm.apply(variables, x, mutable=["batch_stats"])

    expected = reset_batch_norm(apply, variables, x)["batch_stats"]
    found = reset_batch_norm(apply, half, x)["batch_stats"]
    for name, leaf in found.items():
        assert leaf.dtype == dtype
        error = np.finfo(np.float16).eps if dtype == jnp.float16 else 2.0**-7
        np.testing.assert_allclose(leaf.astype(float), expected[name], rtol=error)


class Spectral(nn.Module):
    """BatchNorm, and a spectral norm whose state is kept beside its statistics."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.SpectralNorm(nn.Dense(4))(x, update_stats=train)
        return nn.Dense(2)(nn.relu(nn.BatchNorm(not train)(x)))


def test_what_else_is_kept_beside_statistics_stays():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)), jnp.float32)
    variables = Spectral().init(jax.random.key(0), x)

    def train(variables, x):
        return Spectral().apply(variables, x, True, mutable=["batch_stats"])

    new = reset_batch_norm(train, variables, x[None])["batch_stats"]
    old, seen = variables["batch_stats"], train(variables, x)[1]["batch_stats"]
    chex.assert_trees_all_equal(new["SpectralNorm_0"], old["SpectralNorm_0"])
    # A step moves the mean by 1 % of the way to that of the batch.
    mean, moved = new["BatchNorm_0"]["mean"], seen["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(0.01 * mean, moved, rtol=1e-4, atol=1e-7)
