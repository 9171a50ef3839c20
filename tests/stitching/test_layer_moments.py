"""All pairs of layers in one pass, against one cut per layer."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import stitching
from stitching import _layer_moments, similarity
from stitching._compiled import Static
from stitching.cutting._network import described
from tests.stitching.networks import (
    Compact,
    NnxNetwork,
    Residual,
    Setup,
    Shared,
    images,
    initialised,
    vectors,
)

A, B, X = Compact(), Setup(), vectors(30)
VARIABLES_A, VARIABLES_B = initialised(A, X), initialised(B, X)
NAMES_A = ["Dense_0", "Dense_1", "Dense_2"]
NAMES_B = ["layers_0", "layers_1", "head"]


def outputs(module, variables, x, names):
    return [stitching.cut(module, n, x).front(variables, x) for n in names]


@pytest.mark.parametrize("sizes", [[10, 10, 10], [17, 13]])
def test_moments_of_all_pairs_are_those_of_one_cut_each(sizes):
    batches = np.split(X, np.cumsum(sizes)[:-1])
    found = stitching.layer_moments(A, VARIABLES_A, B, VARIABLES_B, batches)
    assert (list(found.a), list(found.b)) == (NAMES_A, NAMES_B)
    xs = outputs(A, VARIABLES_A, X, NAMES_A)
    ys = outputs(B, VARIABLES_B, X, NAMES_B)
    for name, x in zip(NAMES_A, xs, strict=True):
        for other, y in zip(NAMES_B, ys, strict=True):
            for got, wanted in zip(
                found.pair(name, other), stitching.moments(x, y), strict=True
            ):
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    matrix = found.matrix(similarity.cka)
    assert (matrix.layers_a, matrix.layers_b) == (NAMES_A, NAMES_B)
    wanted = [[similarity.cka(x, y) for y in ys] for x in xs]
    np.testing.assert_allclose(matrix.values, wanted, atol=1e-4)


def test_each_network_runs_once_per_batch():
    calls = []

    class Counting(Compact):
        def __call__(self, x):
            jax.debug.callback(lambda: calls.append(1), ordered=True)
            return super().__call__(x)

    module = Counting()
    variables = module.init(jax.random.key(0), X)
    jax.effects_barrier()
    calls.clear()
    stitching.layer_moments(module, variables, A, VARIABLES_A, [X[:15], X[15:]])
    jax.effects_barrier()
    assert len(calls) == 2


def test_views_compare_layers_of_different_shapes():
    module, x = Residual(), images(9)
    variables = initialised(module, x)
    given = module, variables, module, variables, [x[:5], x[5:]]
    with pytest.raises(ValueError, match=r"view: expected one that gives all .*'head'"):
        stitching.layer_moments(*given)
    found = stitching.layer_moments(
        *given, layers=["stem", "head"], layers_b=["first"], view=similarity.flattened
    )
    x1, x2, y = (
        similarity.flattened(each)
        for each in outputs(module, variables, x, ["stem", "head", "first"])
    )
    np.testing.assert_allclose(
        found.matrix(similarity.cka).values,
        [[similarity.cka(x1, y)], [similarity.cka(x2, y)]],
        atol=1e-4,
    )
    maps = stitching.layer_moments(*given, layers=["stem", "first/dense"])
    assert float(maps.a["stem"].count) == 9 * 16


def test_layers_of_nnx_networks_and_repeated_calls():
    module, x = NnxNetwork(nnx.Rngs(0)), vectors(12, 6)
    module.eval()
    shared, y = Shared(), vectors(12, 5)
    variables = initialised(shared, y)

    found = stitching.layer_moments(
        module, nnx.state(module), module, nnx.state(module), [x], layers=["blocks/0"]
    )
    activation = stitching.cut(module, "blocks/0", x).front(nnx.state(module), x)
    wanted = stitching.moments(activation).xx
    np.testing.assert_allclose(found.cross[0][0], wanted, rtol=1e-5, atol=1e-6)

    given = stitching.layer_moments(shared, variables, shared, variables, [y])
    assert list(given.a) == ["shared", "shared, call 1", "shared, call 2", "head"]


def hsic(x, y):
    """The unbiased estimate, from its definition (Song et al., 2012)."""
    x, y = (np.asarray(each, np.float64) for each in (x, y))
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    ones = np.ones(n)
    middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    last = 2 / (n - 2) * (ones @ k @ l @ ones)
    return (np.trace(k @ l) + middle - last) / (n * (n - 3))


def test_minibatch_cka_is_the_ratio_of_sums_over_batches():
    batches = np.split(X, [12])
    found = stitching.layer_cka(A, VARIABLES_A, B, VARIABLES_B, batches)
    sums = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
    for batch in batches:
        xs = outputs(A, VARIABLES_A, batch, NAMES_A)
        ys = outputs(B, VARIABLES_B, batch, NAMES_B)
        n = len(batch)
        sums[0][:] += [[n * hsic(x, y) for y in ys] for x in xs]
        sums[1][:] += [n * hsic(x, x) for x in xs]
        sums[2][:] += [n * hsic(y, y) for y in ys]
    wanted = sums[0] / np.sqrt(np.outer(*sums[1:]))
    np.testing.assert_allclose(found.values, wanted, rtol=2e-3, atol=1e-4)
    assert (found.layers_a, found.layers_b) == (NAMES_A, NAMES_B)
    whole = stitching.layer_cka(A, VARIABLES_A, B, VARIABLES_B, [X])
    x, y = (outputs(A, VARIABLES_A, X, NAMES_A)[0], outputs(B, VARIABLES_B, X, NAMES_B))
    debiased = [similarity.cka(x, each, debiased=True) for each in y]
    np.testing.assert_allclose(whole.values[0], debiased, atol=1e-4)


class Half(nn.Module):
    """A layer of one half of the features."""

    start: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(5, dtype=self.dtype, name="layer")
        return layer(x[:, self.start : self.start + 5])


@pytest.mark.parametrize("size", [8, 80])
def test_minibatch_cka_of_unrelated_features_is_near_zero_whatever_the_batch(size):
    """The biased index of batches of 8 is about 5 / 13."""
    x = jax.random.normal(jax.random.key(0), (400 // size, size, 10))
    a, b = Half(0), Half(5)
    given = a, initialised(a, x[0]), b, initialised(b, x[0])
    assert abs(stitching.layer_cka(*given, x).values[0, 0]) < 0.06


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_minibatch_cka_of_16_bits_is_that_of_32(dtype):
    """Sums of 16 bits stagnate over many batches, and overflow."""
    x = 5 * jax.random.normal(jax.random.key(0), (300, 8, 10))
    a, b = Half(0, dtype), Half(3, dtype)
    given = a, initialised(a, x[0]), b, initialised(b, x[0])
    found = stitching.layer_cka(*given, x).values
    exact = stitching.layer_cka(*given, x, view=lambda x: x.astype("float32")).values
    np.testing.assert_allclose(found, exact, atol=1e-6)
    assert 0.05 < found[0, 0] < 0.95


class Integers(nn.Module):
    """A layer that returns integers which 16 bits cannot hold."""

    @nn.compact
    def __call__(self, x):
        return 10**6 + (1000 * x).astype("int32")


class Mixed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Integers(name="whole")(Half(0, "bfloat16", name="half")(x))


def test_moments_of_layers_of_several_types_are_in_32_bits_at_least():
    module = Mixed()
    x = jax.random.normal(jax.random.key(0), (40, 5))
    variables = initialised(module, x)
    given = module, variables, module, variables
    found = stitching.layer_moments(*given, [x[:20], x[20:]])
    layers = outputs(module, variables, x, found.a)
    assert {each.dtype.name for each in layers} == {"bfloat16", "int32"}
    for name, first in zip(found.a, layers, strict=True):
        for other, second in zip(found.b, layers, strict=True):
            pairs = found.pair(name, other), stitching.moments(first, second)
            for got, wanted in zip(*pairs, strict=True):
                assert got.dtype == wanted.dtype == np.float32
                # The layer of 16 bits is not always rounded where a program fuses it.
                np.testing.assert_allclose(
                    got, wanted, atol=0.01 * np.abs(wanted).max()
                )


class Counted(nn.Module):
    """Counts how often it is called; its list of layers is not hashable."""

    called: Callable[[], None]
    layers: Sequence[nn.Module]

    @nn.compact
    def __call__(self, x):
        self.called()
        return nn.Sequential(self.layers)(x)


class CountedNnx(nnx.Module):
    def __init__(self, called, rngs):
        self.called = called
        self.first = nnx.Linear(5, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        self.called()
        return self.norm(self.first(x))


@pytest.mark.parametrize("call", [stitching.layer_moments, stitching.layer_cka])
def test_equal_calls_trace_once(call):
    calls = []

    def called():
        calls.append(1)

    x = vectors(24).reshape(3, 8, -1)

    def matrix(width, seed):
        """Of modules that are new each time."""
        a = Counted(called, [nn.Dense(8), nn.relu, nn.Dense(width)])
        b = CountedNnx(called, nnx.Rngs(seed))
        b.eval()
        variables_a = a.init(jax.random.key(seed), x[0])
        calls.clear()
        found = call(a, variables_a, b, nnx.state(b), x)
        count = len(calls)
        if call is stitching.layer_moments:
            found = found.matrix(similarity.cka)
        return found.values, count

    first, traces = matrix(2, 0)
    second, more = matrix(2, 1)
    assert traces > 0
    assert more == 0
    assert not np.allclose(first, second)
    assert matrix(3, 0)[1] > 0


def test_compiling_does_not_take_a_product_per_pair_of_layers():
    """Whatever the depth, each layer adds as many equations."""

    def equations(depth):
        module = nn.Sequential([nn.Dense(4) for _ in range(depth)])
        variables = initialised(module, X)
        flat = similarity.flattened
        called = described(module, "__call__")
        static = Static(_layer_moments._moments, [called] * 2, [None] * 2, flat, {})
        traced = jax.make_jaxpr(partial(_layer_moments._in_batch, static))
        return str(traced([variables] * 2, X)).count("dot_general")

    counts = [equations(depth) for depth in (2, 4, 6)]
    assert counts[2] - counts[1] == counts[1] - counts[0]


class ZeroBranch(nn.Module):
    """A residual branch that starts at zero."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(5, name="stem")(x)
        zeros = nn.initializers.zeros
        return x + nn.Dense(5, kernel_init=zeros, name="branch")(nn.relu(x))


def test_a_constant_layer_has_no_similarity():
    module = ZeroBranch()
    given = module, module.init(jax.random.key(0), X), A, VARIABLES_A, [X]
    found = stitching.layer_moments(*given)
    for matrix in (found.matrix(similarity.cka), stitching.layer_cka(*given)):
        assert list(matrix.layers_a) == ["stem", "branch"]
        assert np.isfinite(matrix.values[0]).all()
        assert np.isnan(matrix.values[1]).all()


class Masked(nn.Module):
    """Leaves out the first of some logits."""

    value: float

    @nn.compact
    def __call__(self, x):
        return x.at[..., 0].set(self.value)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_layer_that_is_not_finite_has_no_similarity(value):
    layers = [nn.Dense(4), Masked(value), nn.softmax, nn.Dense(3)]
    module = nn.Sequential(layers)
    given = module, initialised(module, X), A, VARIABLES_A, [X]
    found = stitching.layer_moments(*given).matrix(similarity.cka)
    assert list(found.layers_a) == ["layers_0", "layers_1", "layers_3"]
    assert np.isnan(found.values[1]).all()
    assert np.isfinite(found.values[0]).all()
    assert np.isfinite(found.values[2]).all() == (value == -np.inf)


def test_other_errors_of_an_index_are_raised():
    found = stitching.layer_moments(A, VARIABLES_A, A, VARIABLES_A, [X * np.nan])
    with pytest.raises(ValueError, match="expected finite moments"):
        found.matrix(similarity.cka)


@pytest.mark.parametrize("call", [stitching.layer_moments, stitching.layer_cka])
def test_an_array_is_no_list_of_batches(call):
    for layers in (None, ["Dense_0"]):
        with pytest.raises(
            ValueError, match=r"batches: expected .*\(5,\); .* is \[x\]"
        ):
            call(A, VARIABLES_A, A, VARIABLES_A, X, layers=layers)


@pytest.mark.parametrize("call", [stitching.layer_moments, stitching.layer_cka])
def test_bad_input_is_rejected(call):
    given = A, VARIABLES_A, B, VARIABLES_B
    with pytest.raises(ValueError, match=r"layers: .*'Dense_0'.*got \['nothing'\]"):
        call(*given, [X], layers=["nothing"])
    with pytest.raises(ValueError, match="variables: expected"):
        call(A, VARIABLES_B, B, VARIABLES_B, [X])
    with pytest.raises(TypeError, match=r"a dictionary of collections.*got str"):
        call(A, "params", B, VARIABLES_B, [X])
    if call is stitching.layer_cka:
        with pytest.raises(ValueError, match="at least 4 samples in each, got 3"):
            call(*given, [X[:3]])
