"""Cutting Linen networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from stitching.cutting import Cut, cut, cut_points, layer_outputs
from tests.stitching.networks import (
    Compact,
    JitBlock,
    Mapped,
    MappedLast,
    Noisy,
    Pair,
    Residual,
    Setup,
    Shared,
    Slope,
    images,
    initialised,
    vectors,
)

FAMILIES = {
    "compact": (Compact(), vectors()),
    "setup": (Setup(), vectors()),
    "sequential": (nn.Sequential([nn.Dense(4), nn.relu, Compact()]), vectors()),
    "residual": (Residual(), images()),
    "remat": (Residual(nn.remat), images()),
    "jit": (Residual(lambda *_, **__: JitBlock), images()),
    "shared": (Shared(), vectors()),
    "vmap": (Mapped(), vectors()),
    "two outputs": (Pair(), vectors()),
    "gradient inside": (Slope(), vectors()),
}


ODD = ["w[0]", "w[a]", "w]0[", "p/q", "head:0"]


class OddNames(nn.Module):
    """Layers in a scan and after it, whose names look like something else."""

    @nn.compact
    def __call__(self, x):
        scanned = nn.scan(
            OddBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
        )
        x, _ = scanned(name="block[3]")(nn.Dense(5)(x), None)
        for name in ODD:
            x = nn.Dense(5, name=name)(x)
        return x


class OddBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(5, name="w[0]")(x), None


class OddKeys(nnx.Module):
    def __init__(self, rngs):
        layers = {name: nnx.Linear(5, 5, rngs=rngs) for name in ODD}
        self.layers = nnx.Dict(layers)

    def __call__(self, x):
        for layer in self.layers.values():
            x = layer(x)
        return x


@pytest.mark.parametrize("framework", ["Linen", "NNX"])
def test_every_name_that_is_listed_can_be_cut(framework):
    if framework == "Linen":
        module, x = OddNames(), vectors()
        variables = initialised(module, x)
    else:
        module, x = OddKeys(nnx.Rngs(0)), vectors()
        variables = nnx.state(module)
    points = cut_points(module, variables, x)
    names = {point.path for point in points}
    assert names >= {name if framework == "Linen" else f"layers/{name}" for name in ODD}
    assert framework == "NNX" or "block[3][1]/w[0]" in names
    outputs = layer_outputs(module, variables, x, None, "__call__", {})
    for point in points:
        activation = cut(module, point.path, x).front(variables, x)
        one = layer_outputs(module, variables, x, [point.path], "__call__", {})
        for found in (activation, one[point.path]):
            np.testing.assert_allclose(found, outputs[point.path], rtol=1e-5, atol=1e-6)


def _close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


def _shape(halves):
    return jax.tree.map(lambda array: array.shape, halves.activation)


@functools.cache
def _cuts(name):
    """A network, its variables, an input, and its cut points with their halves."""
    module, x = FAMILIES[name]
    variables = initialised(module, x)
    points = cut_points(module, variables, x)
    halves = [cut(module, point.path, x, call=point.call) for point in points]
    return module, variables, x, list(zip(points, halves, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_front_then_back_is_the_network_bit_for_bit_op_by_op(name):
    module, variables, x, cuts = _cuts(name)
    with jax.disable_jit():
        whole = module.apply(variables, x)
        for _, halves in cuts:
            again = halves.back(variables, halves.front(variables, x), x)
            np.testing.assert_array_equal(again, whole)


@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_front_then_back_is_the_network(name):
    module, variables, x, cuts = _cuts(name)

    @jax.jit
    def both(variables, x):
        outputs = []
        for point, halves in cuts:
            activation = halves.front(variables, x)
            assert jax.tree.map(jnp.shape, activation) == point.shape
            passed = () if point.is_bottleneck else (x,)
            outputs.append(halves.back(variables, activation, *passed))
        return outputs, module.apply(variables, x)

    outputs, whole = both(variables, x)
    for output in outputs:
        _close(output, whole)


@pytest.mark.parametrize("name", FAMILIES)
def test_cut_and_its_list_agree(name):
    for point, halves in _cuts(name)[-1]:
        assert point.activation == halves.activation
        assert point.is_bottleneck == halves.is_bottleneck


@pytest.mark.parametrize("name", ["residual", "remat", "jit"])
def test_block_outputs_are_bottlenecks_and_layers_inside_a_residual_block_are_not(name):
    assert {point.path: point.is_bottleneck for point, _ in _cuts(name)[-1]} == {
        "stem": True,
        "first/dense": False,
        "first/norm": False,
        "first": True,
        "second/dense": False,
        "second/norm": False,
        "second": True,
        "head": True,
    }


def test_the_front_is_what_the_layer_gives():
    module, variables, x, cuts = _cuts("residual")

    @jax.jit
    def both(variables, x):
        _, captured = module.apply(variables, x, capture_intermediates=True)
        fronts = {p.path: halves.front(variables, x) for p, halves in cuts}
        return fronts, captured["intermediates"]

    fronts, captured = both(variables, x)
    for path, given in fronts.items():
        layer = functools.reduce(dict.__getitem__, path.split("/"), captured)
        _close(given, layer["__call__"][0])


def test_the_back_depends_on_the_activation():
    module, x = Residual(), images()
    variables = initialised(module, x)
    halves = cut(module, "first", x)
    activation = halves.front(variables, x)
    other = halves.back(variables, activation + 1)
    assert np.abs(other - module.apply(variables, x)).max() > 0.1


def test_points_are_listed_in_call_order_with_calls_and_shapes():
    module, x = Shared(), jax.ShapeDtypeStruct((4, 5), "bfloat16")
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    points = cut_points(module, variables, x)
    assert [(p.path, p.call, p.calls, p.shape) for p in points] == [
        ("shared", 0, 3, (4, 5)),
        ("shared", 1, 3, (4, 5)),
        ("shared", 2, 3, (4, 5)),
        ("head", 0, 1, (4, 2)),
    ]
    # Parameters are float32, and the greater of the two is computed with.
    assert all(p.dtype == jnp.float32 for p in points)
    assert all(p.is_bottleneck for p in points)


def test_each_call_of_a_shared_layer_is_a_cut_of_its_own():
    module, x = Shared(), vectors()
    variables = initialised(module, x)
    layer = functools.partial(
        nn.Dense(5).apply, {"params": variables["params"]["shared"]}
    )
    activation = layer(x)
    for call in range(3):
        given = cut(module, "shared", x, call=call).front(variables, x)
        _close(given, activation)
        activation = layer(jnp.sin(activation))


def test_a_mapped_layer_gives_the_mapped_axis_first():
    module, x = Mapped(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "members/Dense_1", x)
    assert _shape(halves) == (3, 4, 6)
    whole = cut(module, "members", x)
    assert _shape(whole) == (3, 4, 3)
    # The leading axis is no batch: x tells its size.
    more = vectors(7)
    _close(
        halves.back(variables, halves.front(variables, more), more),
        module.apply(variables, more),
    )


def test_a_layer_mapped_over_the_last_axis_gives_it_first_too():
    module, x = MappedLast(), jnp.stack([vectors(), vectors() + 1], axis=2)
    variables = initialised(module, x)
    halves = cut(module, "double", x)
    activation = halves.front(variables, x)
    np.testing.assert_array_equal(activation, 2 * jnp.moveaxis(x, 2, 0))
    _close(halves.back(variables, activation, x), module.apply(variables, x))


def test_tree_activations():
    module, x = Pair(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "double", x)
    activation = halves.front(variables, x)
    assert {name: array.shape for name, array in activation.items()} == {
        "unused": (4, 3),
        "used": (4, 4),
    }
    _close(halves.back(variables, activation), module.apply(variables, x))
    (point,) = [p for p in cut_points(module, variables, x) if p.path == "double"]
    assert point.shape == {"unused": (4, 3), "used": (4, 4)}
    assert point.dtype == {"unused": jnp.float32, "used": jnp.float32}


@pytest.mark.parametrize("path", ["stem", "first", "second", "head"])
def test_a_cut_at_a_bottleneck_costs_no_more_than_the_whole(path):
    module, x = Residual(), images()
    variables = initialised(module, x)
    halves = cut(module, path, x)

    def cost(function, *arguments):
        compiled = jax.jit(function).lower(*arguments).compile()
        return (compiled.cost_analysis() or {}).get("flops", 0)

    front = cost(halves.front, variables, x)
    back = cost(halves.back, variables, halves.activation)
    whole = cost(module.apply, variables, x)
    assert front + back <= whole
    assert front + back > 0.8 * whole
    assert front > 0.05 * whole


def test_neither_half_computes_the_other():
    module, x = Compact(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "Dense_1", x)
    needed = {
        "front": jax.make_jaxpr(halves.front)(variables, x),
        "back": jax.make_jaxpr(halves.back)(variables, halves.activation),
    }
    products = {name: str(jaxpr).count("dot_general") for name, jaxpr in needed.items()}
    assert products == {"front": 2, "back": 1}


def test_cuts_across_two_architectures():
    narrow, wide, x = Setup(), Compact(8), vectors()
    first, second = initialised(narrow, x), initialised(wide, x)
    front, back = cut(narrow, "layers_1", x), cut(wide, "Dense_0", x)
    activation = front.front(first, x)
    hidden = nn.relu(
        jnp.tanh(activation) @ second["params"]["Dense_1"]["kernel"]
        + second["params"]["Dense_1"]["bias"]
    )
    wanted = hidden @ second["params"]["Dense_2"]["kernel"]
    wanted += second["params"]["Dense_2"]["bias"]
    _close(back.back(second, activation), wanted)


@pytest.mark.parametrize("n", [1, 7])
def test_other_batch_sizes_than_the_example(n):
    module = Residual()
    variables = initialised(module, images())
    halves = cut(module, "first", jax.ShapeDtypeStruct((2, 4, 4, 2), "float32"))
    x = images(n)
    _close(
        halves.back(variables, halves.front(variables, x)), module.apply(variables, x)
    )


def test_single_examples_and_vmap():
    module, x = Compact(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "Dense_0", x[0])
    activation = jax.vmap(halves.front, (None, 0))(variables, x)
    outputs = jax.vmap(halves.back, (None, 0))(variables, activation)
    _close(outputs, module.apply(variables, x))


def test_many_activations_at_once_by_vmap():
    module, x = Residual(), images()
    variables = initialised(module, x)
    halves = cut(module, "first", x)
    many = jnp.stack([halves.front(variables, x), jnp.ones((2, 4, 4, 4))])
    outputs = jax.jit(jax.vmap(halves.back, (None, 0)))(variables, many)
    for activation, output in zip(many, outputs, strict=True):
        _close(output, halves.back(variables, activation))


def test_gradients_by_the_activation_and_the_variables(x64):
    module, x = Residual(nn.remat), jnp.asarray(images(), float)
    variables = initialised(module, x)
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables)
    halves = cut(module, "second/dense", x)
    direction = np.random.default_rng(4).normal(size=_shape(halves))

    @jax.jit
    def slopes(variables, x):
        activation = halves.front(variables, x)

        def loss(activation):
            return (halves.back(variables, activation, x) ** 2).sum()

        step = 1e-6 * direction
        differences = loss(activation + step) - loss(activation - step)
        return (jax.grad(loss)(activation) * direction).sum(), differences / 2e-6

    np.testing.assert_allclose(*slopes(variables, x), rtol=1e-6)

    def whole(variables):
        return jnp.sum(module.apply(variables, x))

    def of_halves(variables):
        return halves.back(variables, halves.front(variables, x), x).sum()

    gradients = jax.jit(lambda v: (jax.grad(whole)(v), jax.grad(of_halves)(v)))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, *gradients(variables))


def test_an_activation_of_another_precision_is_converted():
    module, x = Compact(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "Dense_0", x)
    activation = halves.front(variables, x).astype(jnp.bfloat16)
    output = halves.back(variables, activation)
    assert output.dtype == jnp.float32
    _close(output, halves.back(variables, activation.astype(jnp.float32)))


def test_options_and_other_methods():
    noisy, x = Noisy(), vectors()
    variables = initialised(noisy, x, deterministic=True)
    halves = cut(noisy, "Dense_0", x, deterministic=True)
    _close(
        halves.back(variables, halves.front(variables, x)),
        noisy.apply(variables, x, deterministic=True),
    )
    module = Setup()
    variables = initialised(module, x)
    features = cut(module, "layers_0", x, method="features")
    _close(
        features.back(variables, features.front(variables, x)),
        module.apply(variables, x, method="features"),
    )


def test_running_statistics_are_used_and_stay():
    module, x = Residual(), images()
    variables = initialised(module, x)
    halves = cut(module, "first/norm", x, train=False)
    norm = jax.tree.map(lambda tree: tree, variables)
    norm["batch_stats"]["first"]["norm"]["mean"] += 1
    shift = norm["params"]["first"]["norm"]["scale"] / jnp.sqrt(
        norm["batch_stats"]["first"]["norm"]["var"] + 1e-5
    )
    _close(
        halves.front(norm, x),
        cut(module, "first/norm", x).front(initialised(module, x), x) - shift,
    )


def test_traces_with_marks_do_not_stay_in_the_cache_of_a_jitted_layer():
    module, x = Residual(lambda *_, **__: JitBlock), images()
    variables = initialised(module, x)
    before = module.apply(variables, x)
    # The blocks are of one class and have the same attributes.
    for path in ("first/dense", "second/norm", "first"):
        given = cut(module, path, x).front(variables, x)
        _close(given, cut(Residual(), path, x).front(variables, x))
    np.testing.assert_array_equal(module.apply(variables, x), before)


def test_what_is_printed_before_the_cut_is_printed_by_the_front(capfd):
    class Printing(nn.Module):
        @nn.compact
        def __call__(self, x):
            jax.debug.print("before {}", x.sum())
            x = nn.Dense(2)(x)
            jax.debug.print("after {}", x.sum())
            return x

    module, x = Printing(), vectors()
    variables = module.init(jax.random.key(0), x)
    halves = cut(module, "Dense_0", x)
    jax.effects_barrier()
    capfd.readouterr()
    assert halves.is_bottleneck
    activation = halves.front(variables, x)
    jax.effects_barrier()
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == [
        "before"
    ]
    halves.back(variables, activation)
    jax.effects_barrier()
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == [
        "after"
    ]


def test_a_cut_by_hand_from_two_functions():
    halves = Cut(lambda variables, x: x * variables, lambda variables, a: a + variables)
    assert halves.is_bottleneck
    assert halves.activation is None
    assert halves.back(2.0, halves.front(2.0, 3.0)) == 8.0
