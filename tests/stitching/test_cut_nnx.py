"""Cutting NNX networks."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from stitching.cutting import cut, cut_points
from stitching.cutting._frozen import computed
from tests.stitching.networks import (
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
    return [(p.path, p.call, p.severs) for p in points]


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
            passed = () if point.severs else (x,)
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
    with pytest.raises(ValueError, match=r"shape \(4, 5\), as .* gives, got \(4, 3\)"):
        back.back(nnx.state(module), front.front(first, inputs))
    activation = front.front(first, inputs)[:, :1] * np.ones(5, np.float32)
    _close(back.back(nnx.state(module), activation), activation)


@pytest.mark.parametrize("layer", ["norm", "dropout"])
@pytest.mark.parametrize("remat", [False, True])
def test_a_network_that_changes_while_it_runs_is_refused(layer, remat):
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


@pytest.mark.parametrize("case", PASSED_ON)
def test_a_value_that_is_passed_on_is_told_from_a_new_one(case):
    function, new = PASSED_ON[case]
    jaxpr = jax.make_jaxpr(function)(vectors()).jaxpr
    assert computed(jaxpr, jaxpr.outvars[0]) == new


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


def test_a_scanned_layer_is_refused_and_what_follows_is_cut():
    module, x = Stack(nnx.Rngs(0)), vectors(4, 6)
    with pytest.raises(ValueError, match=r"module\.eval\(\)"):
        cut(module, "head", x)
    module.eval()
    with pytest.raises(ValueError, match="inside `scan`"):
        cut(module, "layers", x)
    halves = cut(module, "head", x)
    _close(halves.front(nnx.state(module), x), module(x))
