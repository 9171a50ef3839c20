"""Cutting NNX networks."""

import functools
import types

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from stitching.cutting import cut, cut_points
from tests.stitching.networks import (
    NnxBlock,
    NnxNetwork,
    Setup,
    initialised,
    scattered,
    vectors,
)


@functools.cache
def _network(remat=False):
    module = nnx.eval_shape(lambda: NnxNetwork(nnx.Rngs(0), remat))
    module.eval()
    graph, parameters, rest = nnx.split(module, nnx.Any(nnx.Param, nnx.BatchStat), ...)
    rest = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), rest)
    return nnx.merge(graph, scattered(parameters), rest)


def _close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


def _halves(module, x):
    points = cut_points(module, nnx.state(module), x)
    return [(point, cut(module, point.path, x, call=point.call)) for point in points]


def _paths(remat):
    module = _network(remat)
    points = cut_points(module, nnx.state(module), vectors(4, 6))
    return [(p.path, p.call, p.is_bottleneck) for p in points]


@pytest.mark.parametrize("remat", [False, True])
def test_points_of_an_nnx_network(remat):
    blocks = [
        (f"blocks/{i}{layer}", 0, layer == "")
        for i in range(2)
        for layer in ("/dense", "/norm", "/dropout", "")
    ]
    # A shared layer goes by one of its names.
    assert _paths(remat) == [
        ("again", 0, True),
        *blocks,
        ("again", 1, True),
        ("head/layers/0", 0, True),
        ("head", 0, True),
    ]


def test_front_then_back_is_the_network_bit_for_bit_op_by_op():
    module, x = _network(), vectors(4, 6)
    variables = nnx.state(module)
    with jax.disable_jit():
        whole = module(x)
        for _, halves in _halves(module, x):
            again = halves.back(variables, halves.front(variables, x), x)
            np.testing.assert_array_equal(again, whole)


@pytest.mark.parametrize("remat", [False, True])
def test_compiled_front_then_back_is_the_network(remat):
    module, x = _network(remat), vectors(4, 6)
    cuts = _halves(module, x)

    @jax.jit
    def again(variables, x):
        outputs = []
        for point, halves in cuts:
            activation = halves.front(variables, x)
            assert activation.shape == point.shape
            passed = () if point.is_bottleneck else (x,)
            outputs.append(halves.back(variables, activation, *passed))
        return outputs

    whole = nnx.jit(lambda module, x: module(x))(module, x)
    for output in again(nnx.state(module), x):
        _close(output, whole)


def test_the_module_itself_stays_as_it_is():
    module, x = _network(), vectors(4, 6)
    before = nnx.graphdef(module)
    halves = cut(module, "blocks/0", x)
    halves.front(nnx.state(module), x)
    assert nnx.graphdef(module) == before


def test_gradients_by_the_activation():
    module, x = _network(), vectors(4, 6)
    variables = nnx.state(module)
    halves = cut(module, "head/layers/0", x)
    activation = halves.front(variables, x)
    gradient = jax.grad(lambda a: halves.back(variables, a).sum())(activation)
    _close(gradient, 1 - np.tanh(activation) ** 2)


def test_from_linen_to_nnx():
    linen, module = Setup(), _network()
    inputs = vectors(4, 6)
    first = initialised(linen, inputs)
    front, back = cut(linen, "head", inputs), cut(module, "head", inputs)
    with pytest.raises(
        ValueError, match=r"shape \(4, 5\), as .* returns, got \(4, 3\)"
    ):
        back.back(nnx.state(module), front.front(first, inputs))
    activation = front.front(first, inputs)[:, :1] * np.ones(5, np.float32)
    _close(back.back(nnx.state(module), activation), activation)


@pytest.mark.parametrize("layer", ["norm", "dropout"])
@pytest.mark.parametrize("remat", [False, True])
def test_a_network_that_changes_while_it_runs_is_rejected(layer, remat):
    module = _network(remat)
    getattr(module.blocks[1], layer).train()
    with pytest.raises(ValueError, match=r"'blocks/1/.*module\.eval\(\)"):
        cut(module, "head", vectors(4, 6))
    getattr(module.blocks[1], layer).eval()


PASSED_ON = {
    "itself": (lambda x: x, False),
    "through a call": (jax.checkpoint(lambda x: x), False),
    "moved": (lambda x: x.T, False),
    "carried": (lambda x: jax.lax.scan(lambda c, _: (c, 0), x, length=2)[0], False),
    "scanned": (lambda x: jax.lax.scan(lambda c, r: (c, r), 0, x)[1], False),
    "repeated": (lambda x: jax.lax.fori_loop(0, 2, lambda _, c: c, x), False),
    "branches": (lambda x: jax.lax.cond(x.sum() > 0, _same, _same, x), False),
    "changed": (jax.numpy.sin, True),
    "changed in a call": (jax.checkpoint(jax.numpy.sin), True),
    "changed before a call": (lambda x: jax.checkpoint(_same)(jax.numpy.sin(x)), True),
    "in one branch": (
        lambda x: jax.lax.cond(x.sum() > 0, _same, jax.numpy.sin, x),
        True,
    ),
    "in a scan": (
        lambda x: jax.lax.scan(lambda c, _: (c + 1, 0), x, length=2)[0],
        True,
    ),
    "constant": (lambda x: 0.0, True),
}


def _same(x):
    return x


class Stateful(nnx.Module):
    """Replaces a variable, on which its output depends, by a function of it."""

    def __init__(self, function):
        self.function = function
        self.state = nnx.Variable(vectors())
        self.layer = nnx.Linear(5, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        old = self.state[...]
        self.state.set_value(self.function(old))
        return self.layer(x * old.sum())


@pytest.mark.parametrize("case", PASSED_ON)
def test_a_variable_that_is_passed_on_is_not_one_that_changes(case):
    function, changes = PASSED_ON[case]
    module = Stateful(function)
    if changes:
        with pytest.raises(ValueError, match="changes its variable 'state' while"):
            cut(module, "layer", vectors())
    else:
        assert cut(module, "layer", vectors()).is_bottleneck


class Stack(nnx.Module):
    """Normalised layers in a scan."""

    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stacked(rngs):
            return nnx.BatchNorm(6, rngs=rngs)

        self.layers = stacked(rngs)
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, layer):
            return layer(x)

        return self.head(run(x, self.layers))


def test_a_scanned_layer_needs_an_index_and_what_follows_does_not():
    module, x = Stack(nnx.Rngs(0)), vectors(4, 6)
    with pytest.raises(ValueError, match=r"module\.eval\(\)"):
        cut(module, "head", x)
    module.eval()
    with pytest.raises(ValueError, match=r"'layers\[0\]' to 'layers\[2\]'"):
        cut(module, "layers", x)
    halves = cut(module, "head", x)
    _close(halves.front(nnx.state(module), x), module(x))


class Configured(nnx.Module):
    """Layers that follow flags of their own, of their parent and of a shared object."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.block = NnxBlock(rngs)
        self.again = self.block.dense
        self.config = types.SimpleNamespace(scale=2.0)
        self.flag = False
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        x = self.block(self.norm(x)) * self.config.scale
        return self.head(-self.again(x) if self.flag else self.again(x))


def _train(module):
    module.train()


def _set_block_to_train(module):
    module.block.dropout.train()


def _set_flags(module):
    module.flag = True
    module.config.scale = 7.0


def _replace_a_layer(module):
    module.block.dense = nnx.Linear(6, 6, rngs=nnx.Rngs(9))


def _run_in_training(module):
    module.train()
    module(vectors(4, 6))
    module.eval()


def _sow(module):
    module.sow(nnx.Intermediate, "seen", jax.numpy.ones(3))


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
@pytest.mark.parametrize(
    "happens",
    [
        _train,
        _set_block_to_train,
        _set_flags,
        _replace_a_layer,
        _run_in_training,
        _sow,
    ],
)
def test_a_cut_is_frozen_when_it_is_made(happens):
    module, x = Configured(nnx.Rngs(0)), vectors(4, 6)
    module.eval()
    variables = nnx.state(nnx.clone(module))
    points = cut_points(module, variables, x)
    halves = cut(module, "block", x)
    whole = module(x)
    activation = halves.front(variables, x)
    happens(module)
    # Of a shape that was compiled before, and of one that is traced only now.
    again = halves.back(variables, halves.front(variables, x))
    np.testing.assert_allclose(again, whole, rtol=1e-5)
    again = halves.back(variables, halves.front(variables, x[:3]))
    np.testing.assert_allclose(again, whole[:3], rtol=1e-5)
    np.testing.assert_array_equal(halves.front(variables, x), activation)
    assert [point.path for point in points] == [
        "norm",
        "again",
        "block/norm",
        "block/dropout",
        "block",
        "again",
        "head",
    ]


def test_variables_of_now_are_taken_with_the_structure_of_then():
    module, x = Configured(nnx.Rngs(0)), vectors(4, 6)
    module.eval()
    halves = cut(module, "block", x)
    _run_in_training(module)
    variables = nnx.state(module)
    module.train()
    again = halves.back(variables, halves.front(variables, x))
    module.eval()
    np.testing.assert_allclose(again, module(x), rtol=1e-5)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))
        return nn.Dropout(0.5, deterministic=True)(x)


def _recurrent(rngs):
    return nnx.RNN(nnx.LSTMCell(6, 6, rngs=rngs))


def _bridged(rngs):
    return nnx.bridge.ToNNX(Linen(), rngs=rngs).lazy_init(vectors(4, 6))


def _weight_norm(rngs):
    return nnx.WeightNorm(nnx.Linear(6, 6, rngs=rngs), rngs=rngs)


def _spectral_norm(rngs):
    return nnx.SpectralNorm(nnx.Linear(6, 6, rngs=rngs), rngs=rngs)


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)

    def __call__(self, x):
        return self.attention(x, sow_weights=True)


class Counter(nnx.Module):
    """Counts its calls, sows what it has seen as a kind of its own, and averages it."""

    class Log(nnx.Variable):
        pass

    def __init__(self, rngs):
        self.calls = nnx.Variable(jax.numpy.zeros((), int))
        self.average = nnx.metrics.Average()

    def __call__(self, x):
        self.calls.set_value(self.calls[...] + 1)
        self.sow(self.Log, "log", x)
        self.average.update(values=x)
        return x + 1


class Unused(nnx.Module):
    """Draws random numbers that its output does not depend on."""

    def __init__(self, rngs):
        self.rngs = rngs.fork()

    def __call__(self, x):
        noise = jax.random.normal(self.rngs(), x.shape)
        return x + 0 * jax.numpy.zeros_like(noise)


class Around(nnx.Module):
    """A layer between two of which the cuts are made."""

    def __init__(self, made, rngs):
        self.first = nnx.Linear(6, 6, rngs=rngs)
        self.middle = made(rngs)
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.middle(self.first(x)))


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
@pytest.mark.parametrize(
    "made",
    [
        _recurrent,
        _bridged,
        _weight_norm,
        _spectral_norm,
        Attention,
        Counter,
        Unused,
    ],
)
def test_what_is_drawn_or_recorded_without_effect_is_no_hindrance(made):
    module, x = Around(made, nnx.Rngs(0)), vectors(3 * 4, 6).reshape(3, 4, 6)
    module.eval()
    first = cut(module, "first", x)
    whole = module(x)
    # The module has now drawn, counted and sown once; the cut is the same before,
    # after, and with the variables of now.
    for halves in (first, cut(module, "first", x)):
        variables = nnx.state(module)
        again = halves.back(variables, halves.front(variables, x))
        np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-6)
    paths = [point.path for point in cut_points(module, nnx.state(module), x)]
    assert {"first", "middle", "head"} <= set(paths)


class Noise(nnx.Module):
    """Adds noise, whatever the mode."""

    def __init__(self, rngs):
        self.rngs = rngs.fork()

    def __call__(self, x):
        return x + jax.random.normal(self.rngs(), x.shape)


class Warming(nnx.Module):
    """Its output depends on how often it was called."""

    def __init__(self, rngs):
        self.calls = nnx.Variable(jax.numpy.zeros(()))

    def __call__(self, x):
        self.calls.set_value(self.calls[...] + 1)
        return x * self.calls[...]


class Running(nnx.Module):
    """Keeps a running mean of its inputs."""

    def __init__(self, rngs):
        self.mean = nnx.Variable(jax.numpy.zeros(6))

    def __call__(self, x):
        self.mean.set_value(0.9 * self.mean[...] + 0.1 * x.mean((0, 1)))
        return x - x.mean((0, 1))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Noise, "depends on random numbers .'middle/rngs/"),
        (Warming, "changes its variable 'middle/calls'"),
        (Running, "changes its variable 'middle/mean'"),
    ],
)
def test_an_output_that_depends_on_what_changes_is_rejected(made, words):
    module = Around(made, nnx.Rngs(0))
    module.eval()
    x = vectors(3 * 4, 6).reshape(3, 4, 6)
    with pytest.raises(ValueError, match=words):
        cut(module, "first", x)
    with pytest.raises(ValueError, match=words):
        cut_points(module, nnx.state(module), x)


class Tanh(nnx.Linear):
    def __call__(self, x):
        return jax.numpy.tanh(super().__call__(x))


class Inherited(Tanh):
    """A layer whose `__call__` is another class's."""


ACTIVATIONS = {nnx.Linear: nnx.relu, nnx.LayerNorm: nnx.tanh, Inherited: nnx.gelu}
REGISTERED = []


class Registered(nnx.Module):
    """A base class that knows its subclasses, which have to give a label."""

    def __init_subclass__(cls, label, **options):
        super().__init_subclass__(**options)
        REGISTERED.append((label, cls.__name__))


class Doubling(Registered, label="twice"):
    def __call__(self, x):
        return 2 * x


class ByClass(nnx.Module):
    """What it computes depends on the classes of its layers."""

    def __init__(self, rngs):
        self.first = nnx.Linear(5, 5, rngs=rngs)
        self.norm = nnx.LayerNorm(5, rngs=rngs)
        self.inherited = Inherited(5, 5, rngs=rngs)
        self.tanh = Tanh(5, 5, rngs=rngs)
        self.doubling = Doubling()

    def __call__(self, x):
        for layer in (self.first, self.norm, self.inherited, self.first):
            x = ACTIVATIONS[type(layer)](layer(x))
        x = self.doubling(nnx.remat(lambda layer, x: layer(x))(self.tanh, x))
        return x + (type(self.doubling) is Doubling) + len(REGISTERED)


def test_layers_keep_their_classes():
    module, x = ByClass(nnx.Rngs(0)), vectors()
    calls = {layer: layer.__call__ for layer in (*ACTIVATIONS, Tanh, Doubling)}
    wanted, registered = module(x), list(REGISTERED)
    points = cut_points(module, nnx.state(module), x)
    names = "first", "norm", "inherited", "first", "tanh", "doubling"
    assert tuple(point.path for point in points) == names
    for point, halves in _halves(module, x):
        activation = halves.front(nnx.state(module), x)
        _close(halves.back(nnx.state(module), activation), wanted)
        assert point.is_bottleneck
    assert registered == REGISTERED
    assert {layer: layer.__call__ for layer in calls} == calls
    assert "__call__" not in vars(Inherited)


class Failing(nnx.Module):
    """Fails where its layer returns more than a number of channels."""

    def __init__(self, rngs):
        self.layer = Tanh(5, 7, rngs=rngs)

    def __call__(self, x):
        if self.layer(x).shape[-1] > 5:
            raise ZeroDivisionError
        return x


def test_a_class_is_as_before_after_an_error():
    module = Failing(nnx.Rngs(0))
    call = Tanh.__call__
    with pytest.raises(ZeroDivisionError):
        cut(module, "layer", vectors())
    assert Tanh.__call__ is call


def test_a_network_may_cut_another_one_while_it_is_cut():
    inner, x = Tanh(5, 5, rngs=nnx.Rngs(0)), vectors()

    class Outer(nnx.Module):
        def __init__(self):
            self.layer = Tanh(5, 5, rngs=nnx.Rngs(1))

        def __call__(self, x):
            other = nnx.Sequential(inner, inner)
            halves = cut(other, "layers/0", x, call=0)
            return self.layer(halves.front(nnx.state(other), x))

    module = Outer()
    assert [p.path for p in cut_points(module, nnx.state(module), x)] == ["layer"]
    halves = cut(module, "layer", x)
    _close(halves.front(nnx.state(module), x), module(x))
