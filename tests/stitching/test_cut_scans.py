"""Cutting layers inside scans, against loops over the layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import stitching
from stitching import _jaxpr, layers, targets
from stitching.cutting import cut, cut_points
from stitching.cutting._network import network
from tests.stitching.networks import initialised, scattered, vectors

PARAMS: Any = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}


class Block(nn.Module):
    """A residual block that passes on whatever else is carried."""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(7, name="up")(nn.LayerNorm(name="norm")(x))
        return x + nn.Dense(5, name="down")(nn.gelu(y))


class Carried(nn.Module):
    """A block as the body of a scan."""

    @nn.compact
    def __call__(self, x, _):
        return Block(name="block")(x), None


class Several(nn.Module):
    """A carry of activation, mask and counter, and an input and output per layer."""

    @nn.compact
    def __call__(self, carry, scale):
        x, mask, count = carry
        y = nn.Dense(5, name="mlp")(jnp.sin(x)) * mask[:, None] * scale / (1 + count)
        return (x + y, mask, count + 1), y.mean(1)


class Attending(nn.Module):
    """A block of a transformer; the mask is the same for all layers."""

    @nn.compact
    def __call__(self, x, mask):
        y = nn.LayerNorm(name="norm")(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y, mask=mask)
        return nn.BatchNorm(use_running_average=True, name="batch")(x), None


class Group(nn.Module):
    """A scan that is scanned."""

    @nn.compact
    def __call__(self, x, _):
        return nn.scan(Carried, length=3, **PARAMS)(name="blocks")(x, None)


def _scan(block=Carried, *, length=4, **options):
    return nn.scan(block, length=length, **{**PARAMS, **options})(name="blocks")


class Function(nn.Module):
    """A scan of a function of two layers."""

    @nn.compact
    def __call__(self, x):
        def body(module, x, _):
            y = nn.tanh(nn.Dense(5, name="first")(x))
            return nn.Dense(5, name="second")(y), None

        return nn.scan(body, length=3, **PARAMS)(self, x, None)[0]


class Network(nn.Module):
    """A stem, layers in a scan of some kind, a head."""

    kind: str

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(5, name="stem")(x)
        return nn.Dense(2, name="head")(getattr(self, self.kind)(x))

    def plain(self, x):
        return _scan()(x, None)[0]

    def remat(self, x):
        return _scan(nn.remat(Carried))(x, None)[0]

    def reverse(self, x):
        return _scan(reverse=True)(x, None)[0]

    def last_axis(self, x):
        return _scan(variable_axes={"params": -1})(x, None)[0]

    def unrolled(self, x):
        return _scan(unroll=2)(x, None)[0]

    def one_set(self, x):
        options: Any = {"variable_broadcast": "params", "split_rngs": {"params": False}}
        return nn.scan(Carried, length=4, **options)(name="blocks")(x, None)[0]

    def nested(self, x):
        remat_scan: Any = nn.remat_scan
        return remat_scan(Block, lengths=(2, 3))(name="blocks")(x)

    def groups(self, x):
        return nn.scan(Group, length=2, **PARAMS)(name="groups")(x, None)[0]

    def function(self, x):
        return Function(name="pairs")(x)

    def twice(self, x):
        blocks = _scan()
        return blocks(jnp.sin(blocks(x, None)[0]), None)[0]


SCANS = [
    "plain",
    "remat",
    "reverse",
    "last_axis",
    "unrolled",
    "one_set",
    "nested",
    "groups",
    "function",
    "twice",
]


class SeveralNetwork(nn.Module):
    """Masked layers, whose outputs go into the network's."""

    @nn.compact
    def __call__(self, x, mask):
        carry = x, mask, jnp.zeros((), int)
        (x, *_), each = _scan(Several)(carry, jnp.linspace(0.5, 1, 4))
        return {"out": nn.Dense(2, name="head")(x), "each": each}


class Transformer(nn.Module):
    """Layers that all see one mask."""

    @nn.compact
    def __call__(self, x, mask):
        blocks = _scan(
            nn.remat(Attending),
            in_axes=nn.broadcast,
            variable_axes={"params": 0, "batch_stats": 0},
        )
        return nn.Dense(2, name="head")(blocks(x, mask)[0])


class NnxLayer(nnx.Module):
    """A residual block."""

    def __init__(self, rngs):
        self.mlp = nnx.Linear(5, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, mask):
        return x + self.dropout(self.norm(nnx.tanh(self.mlp(x)))) * mask[:, None]


class NnxScanned(nnx.Module):
    """Layers made by `vmap` and run by `scan`."""

    def __init__(self, rngs, remat=False):
        @nnx.split_rngs(splits=4)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stacked(rngs):
            return NnxLayer(rngs)

        self.blocks = stacked(rngs)
        self.head = nnx.Linear(5, 2, rngs=rngs)
        self.remat = remat

    def __call__(self, x, mask):
        def step(x, layer, mask):
            return layer(x, mask)

        step = nnx.remat(step) if self.remat else step
        axes: Any = (nnx.Carry, 0, None)
        return self.head(
            nnx.scan(step, in_axes=axes, out_axes=nnx.Carry)(x, self.blocks, mask)
        )


def _double(tree):
    return jax.tree.map(
        lambda a: np.asarray(a, float) if jnp.issubdtype(a.dtype, jnp.floating) else a,
        tree,
    )


def _linen(module, *inputs):
    """A function of the variables, and variables in float64."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return module.apply, _double(scattered(shapes))


def _nnx(module):
    module.eval()
    graph, state = nnx.split(module)
    return lambda state, *x: nnx.merge(graph, state)(*map(jnp.asarray, x)), _double(
        state
    )


MASK = np.array([1.0, 0.0, 1.0, 1.0])
ATTENDED = np.tril(np.ones((4, 4), bool))


def _family(name):
    """A module, its function, variables and inputs."""
    x = np.asarray(vectors(), float)
    if name in SCANS:
        module: Any = Network(name)
        return module, *_linen(module, x), (x,)
    if name == "several":
        module = SeveralNetwork()
        return module, *_linen(module, x, MASK), (x, MASK)
    if name == "transformer":
        tokens = np.stack([x[:, :4], x[:, 1:]])
        module = Transformer()
        return module, *_linen(module, tokens, ATTENDED), (tokens, ATTENDED)
    module = NnxScanned(nnx.Rngs(0), remat=name == "nnx remat")
    return module, *_nnx(module), (x, MASK)


FAMILIES = [*SCANS, "several", "transformer", "nnx", "nnx remat"]


def _close(got, wanted):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())

    jax.tree.map(check, got, wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_front_then_back_is_the_network(name, x64):
    module, apply, variables, inputs = _family(name)
    points = cut_points(module, variables, inputs)
    if name != "plain":
        points = points[1 :: max(len(points) // 3, 1)]
    cuts = [cut(module, point.path, inputs, call=point.call) for point in points]
    for point, halves in zip(points, cuts, strict=True):
        assert point.activation == halves.activation
        assert point.is_bottleneck == halves.is_bottleneck
    if name == "one_set":  # Its iterations are not listed.
        cuts += [cut(module, f"blocks[{i}]", inputs) for i in (0, 3)]

    @jax.jit
    def both(variables, inputs):
        outputs = []
        for halves in cuts:
            activation = halves.front(variables, inputs)
            passed = () if halves.is_bottleneck else (inputs,)
            outputs.append(halves.back(variables, activation, *passed))
        return outputs, apply(variables, *inputs)

    outputs, whole = both(variables, inputs)
    assert len(outputs) >= 3
    for output in outputs:
        _close(output, whole)


@pytest.mark.parametrize("name", ["plain", "several", "nnx"])
def test_op_by_op_too(name, x64):
    module, apply, variables, inputs = _family(name)
    halves = cut(module, "blocks[2]", inputs)
    with jax.disable_jit():
        whole = apply(variables, *inputs)
        again = halves.back(variables, halves.front(variables, inputs), inputs)
    _close(again, whole)


def _at(variables, *index, axis=0):
    """The parameters of one iteration."""
    for i in index:
        variables = jax.tree.map(lambda a, i=i: np.take(a, i, axis), variables)
    return {"params": variables}


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("plain", [(0,), (1,), (2,), (3,)]),
        ("last_axis", [(0,), (1,), (2,), (3,)]),
        ("reverse", [(3,), (2,), (1,), (0,)]),
        ("nested", [(i, j) for i in (0, 1) for j in (0, 1, 2)]),
    ],
)
def test_the_front_is_what_a_loop_over_the_layers_gives(name, order, x64):
    module, _, variables, (x,) = _family(name)
    parameters = variables["params"]
    value = nn.Dense(5).apply({"params": parameters["stem"]}, x)
    axis = -1 if name == "last_axis" else 0
    body = Block() if name == "nested" else Carried()
    for index in order:
        inputs = (value,) if name == "nested" else (value, None)
        value = body.apply(_at(parameters["blocks"], *index, axis=axis), *inputs)
        value = value if name == "nested" else value[0]
        found = cut(module, f"blocks{list(index)}", x)
        assert found.is_bottleneck
        _close(found.front(variables, x), value)


def test_points_are_listed_by_iteration_in_order():
    def listed(kind):
        module, x = Network(kind), vectors()
        points = cut_points(module, initialised(module, x), x)
        return [(p.path, p.is_bottleneck) for p in points if p.shape == (4, 5)]

    each = [
        ("/block/norm", False),
        ("/block/down", False),
        ("/block", True),
        ("", True),
    ]
    assert listed("plain") == [
        ("stem", True),
        *((f"blocks[{i}]{name}", found) for i in range(4) for name, found in each),
    ]
    assert [name for name, _ in listed("reverse")][4] == "blocks[3]"
    assert listed("groups")[4] == ("groups[0]/blocks[0]", True)
    layers = [(name, i) for i in range(3) for name in ("first", "second")]
    paths = [name for name, _ in listed("function")]
    assert paths == ["stem", *(f"pairs[{i}]/{name}" for name, i in layers), "pairs"]
    points = cut_points(Function(), initialised(Function(), vectors()), vectors())
    assert [point.path for point in points] == [f"{name}[{i}]" for name, i in layers]
    assert listed("nested")[-1] == ("blocks[1, 2]", True)


def test_indices_may_follow_any_name_of_the_path(x64):
    module, _, variables, (x,) = _family("groups")
    name = "groups[1]/blocks[2]/block/up"
    wanted = cut(module, name, x).front(variables, x)
    for other in (
        "groups/blocks[1, 2]/block/up",
        "groups/blocks[1][2]/block/up",
        "groups/blocks/block/up[1,2]",
    ):
        np.testing.assert_array_equal(cut(module, other, x).front(variables, x), wanted)


def test_of_a_carry_the_activation_is_what_the_layer_computes_from_the_inputs(x64):
    """The mask is passed on, the counter knows no inputs, the output is no carry."""
    module, apply, variables, inputs = _family("several")
    halves = cut(module, "blocks[1]", inputs)
    assert halves.activation == jax.ShapeDtypeStruct((4, 5), float)
    assert not halves.is_bottleneck
    other = halves.front(variables, inputs) + 1
    output = halves.back(variables, other, inputs)
    x, mask = other, inputs[1]
    for i, scale in enumerate(np.linspace(0.5, 1, 4)[2:], 2):
        layer = _at(variables["params"]["blocks"]["mlp"], i)
        y = nn.Dense(5).apply(layer, jnp.sin(x)) * mask[:, None] * scale / (1 + i)
        _close(output["each"][i], y.mean(1))
        x = x + y
    head = {"params": variables["params"]["head"]}
    _close(output["out"], nn.Dense(2).apply(head, x))
    # What was computed before stays.
    _close(output["each"][:2], apply(variables, *inputs)["each"][:2])


class Both(nn.Module):
    """A carry of two activations, and a counter that no input changes."""

    @nn.compact
    def __call__(self, carry, _):
        x, y, count = carry
        rate = count / 4
        return (nn.Dense(5)(y) * rate, nn.Dense(5)(x), count + 1), None


class BothNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        carry = x, jnp.sin(x), jnp.ones(())
        (x, y, _), _ = _scan(Both)(carry, None)
        return x + y


def test_a_carry_of_two_activations_is_a_tree_and_a_counter_needs_no_inputs(x64):
    module, x = BothNetwork(), np.asarray(vectors(), float)
    apply, variables = _linen(module, x)
    halves = cut(module, "blocks[2]", x)
    assert halves.is_bottleneck
    activation = halves.front(variables, x)
    assert [leaf.shape for leaf in jax.tree.leaves(activation)] == [(4, 5), (4, 5)]
    _close(halves.back(variables, activation), apply(variables, x))


@pytest.mark.parametrize("name", ["plain", "remat", "nested", "nnx remat"])
def test_gradients_through_both_halves_are_those_of_the_network(name, x64):
    module, apply, variables, inputs = _family(name)
    path = "blocks[1, 1]" if name == "nested" else "blocks[1]"
    halves = cut(module, path, inputs)

    def of_halves(variables, inputs):
        activation = halves.front(variables, inputs)
        return (halves.back(variables, activation, inputs) ** 2).sum()

    def whole(variables, inputs):
        return (apply(variables, *inputs) ** 2).sum()

    @jax.jit
    def gradients(variables, x):
        given = variables, (x, *inputs[1:])
        return [jax.grad(f, allow_int=True)(*given) for f in (of_halves, whole)]

    got, wanted = (jax.tree.leaves(tree) for tree in gradients(variables, inputs[0]))
    for a, b in zip(got, wanted, strict=True):
        if a.dtype == b.dtype == float:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_the_back_uses_the_parameters_of_later_iterations_only(x64):
    module, _, variables, (x,) = _family("remat")
    halves = cut(module, "blocks[1]", x)
    activation = halves.front(variables, x)
    slopes = jax.grad(lambda v: halves.back(v, activation).sum())(variables)
    for leaf in jax.tree.leaves(slopes["params"]["blocks"]):
        assert not np.any(leaf[:2])
        assert np.all(np.any(leaf[2:] != 0, axis=tuple(range(1, leaf.ndim))))
    assert not np.any(slopes["params"]["stem"]["kernel"])


def test_each_half_runs_its_own_iterations():
    module, x = Network("remat"), vectors()
    variables = initialised(module, x)
    halves = cut(module, "blocks[1]", x)

    def lengths(function, *arguments):
        text = str(jax.make_jaxpr(function)(*arguments))
        return [int(part.split()[0]) for part in text.split("length=")[1:]]

    assert lengths(halves.front, variables, x) == [1]
    assert lengths(halves.back, variables, halves.activation) == [2]


def test_activations_of_many_and_other_batches():
    module = Network("plain")
    variables = initialised(module, vectors())
    halves = cut(module, "blocks[2]", vectors())
    x = vectors(7)
    activation = halves.front(variables, x)
    whole = module.apply(variables, x)
    np.testing.assert_allclose(halves.back(variables, activation), whole, atol=1e-5)
    each = jax.vmap(halves.back, (None, 0))(variables, activation[:, None])
    np.testing.assert_allclose(each[:, 0], whole, atol=1e-5)


def test_what_is_printed_in_iterations_before_the_cut_is_printed_by_the_front(capfd):
    class Printing(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            jax.debug.print("printed {}", x.sum())
            return nn.Dense(5)(x), None

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            # Flax with JAX 0.12 takes what is printed for an invariant of the loop.
            return _scan(Printing, check_constancy_invariants=False)(x, None)[0]

    module, x = Scanned(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "blocks[2]", x)
    assert halves.is_bottleneck
    jax.effects_barrier()
    capfd.readouterr()
    activation = halves.front(variables, x)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("printed") == 3
    halves.back(variables, activation)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("printed") == 1


def test_layers_inside_scans_are_stitched_and_trained():
    module, x = Network("remat"), vectors(40)
    a, b = (module.init(jax.random.key(seed), x) for seed in (1, 2))
    halves = cut(module, "blocks[1]", x)
    stitched = stitching.stitch(halves, layers.Affine(5), halves)
    own = module.apply(b, x)
    found = stitching.train(
        stitched,
        a,
        b,
        x,
        targets.squared_error(own),
        optax.adam(0.03),
        key=jax.random.key(0),
        steps=60,
        batch_size=20,
    )
    error = ((stitched.apply(found.variables, a, b, x) - own) ** 2).mean()
    assert error < 0.5 * np.var(own)


def test_moments_of_all_iterations_in_one_pass():
    module, x = Network("plain"), vectors(30)
    variables = initialised(module, x)
    found = stitching.layer_moments(
        module, variables, module, variables, [x], layers=["blocks[0]", "blocks[3]"]
    )
    for name in ("blocks[0]", "blocks[3]"):
        activation = cut(module, name, x).front(variables, x)
        wanted = stitching.moments(activation)
        np.testing.assert_allclose(found.a[name].xx, wanted.xx, rtol=1e-4, atol=1e-5)
    module = Function()
    variables = initialised(module, x)
    every = stitching.layer_moments(module, variables, module, variables, [x])
    names = [point.path for point in cut_points(module, variables, x)]
    assert list(every.a) == names
    assert "second[2]" in names


def test_a_scan_that_runs_twice_has_two_calls_of_each_iteration():
    module, x = Network("twice"), vectors()
    points = cut_points(module, initialised(module, x), x)
    calls = [(p.call, p.calls) for p in points if p.path == "blocks[3]"]
    assert calls == [(0, 2), (1, 2)]


def _recurrent(length):
    module, x = nn.RNN(nn.LSTMCell(3)), jnp.zeros((2, length, 4))
    return module, jax.eval_shape(module.init, jax.random.key(0), x), x


class Recurrent(nn.Module):
    """Layers in a scan, each of which runs its own recurrent network."""

    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return nn.RNN(nn.SimpleCell(5), name="rnn")(x), None

        return _scan(Layer, length=2)(x, None)[0]


class NnxRecurrent(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.GRUCell(5, 3, rngs=rngs))
        self.head = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x))


def test_steps_of_a_recurrent_network_are_no_layers_but_can_be_cut():
    module, x = Recurrent(), vectors(6).reshape(2, 3, 5)
    variables = initialised(module, x)
    points = [point.path for point in cut_points(module, variables, x)]
    assert points == ["blocks[0]/rnn", "blocks[0]", "blocks[1]/rnn", "blocks[1]"]
    found = stitching.layer_moments(module, variables, module, variables, [x])
    assert list(found.a) == points
    name = "blocks[1]/SimpleCell_0[2]/i"
    with pytest.raises(
        ValueError, match=r"path: expected 'blocks\[0\]/SimpleCell_0\[0\]/i' to "
    ):
        cut(module, "blocks[1]/SimpleCell_0/i", x)
    halves = cut(module, name, x)
    activation = halves.front(variables, x)
    assert activation.shape == (2, 5)
    whole = module.apply(variables, x)
    again = halves.back(variables, activation, x)
    np.testing.assert_allclose(again, whole, atol=1e-5)
    named = stitching.layer_moments(
        module, variables, module, variables, [x], layers=[name]
    )
    wanted = stitching.moments(activation).xx
    np.testing.assert_allclose(named.a[name].xx, wanted, rtol=1e-4, atol=1e-6)

    nnx_module = NnxRecurrent(nnx.Rngs(0))
    nnx_module.eval()
    paths = [p.path for p in cut_points(nnx_module, nnx.state(nnx_module), x)]
    assert paths == ["rnn", "head"]
    assert cut(nnx_module, "rnn/cell[1]", x).activation is not None


def test_all_bottlenecks_take_one_pass(monkeypatch):
    """As many eliminations for each step, however many there are."""
    calls = []
    dce_jaxpr = _jaxpr.dce_jaxpr

    def counting(jaxpr, used):
        calls.append(len(jaxpr.eqns))
        return dce_jaxpr(jaxpr, used)

    monkeypatch.setattr(_jaxpr, "dce_jaxpr", counting)
    equations = []
    for length in (4, 8, 16):
        module, variables, x = _recurrent(length)
        program = network(module, "__call__", {}, (x,)).program(
            variables, (x,), None, "all"
        )
        calls.clear()
        found = program.bottlenecks()
        equations.append(sum(calls))
    assert equations[2] - equations[1] == 2 * (equations[1] - equations[0])
    # The same as one by one, from what each back uses.
    assert found == [program.is_bottleneck(mark) for mark in range(len(found))]


@pytest.mark.parametrize("name", ["one_set", "reverse", "groups", "several", "nnx"])
def test_the_pass_over_all_bottlenecks_agrees_with_each_back(name):
    module, _, variables, inputs = _family(name)
    layers = network(module, "__call__", {}, inputs)
    program = layers.program(layers.plain(variables), inputs, None, "all")
    wanted = [program.is_bottleneck(mark) for mark in range(len(program.marks))]
    assert len(wanted) > 5
    assert program.bottlenecks() == wanted


REFUSED = {
    "blocks": r"'blocks\[0\]' to 'blocks\[3\]', as the layer runs in a scan, got 'bl",
    "blocks/block/up": r"'blocks\[0\]/block/up' to 'blocks\[3\]/block/up', as",
    "blocks[4]": r"'blocks\[0\]' to 'blocks\[3\]', .* got 'blocks\[4\]'",
    "blocks[-1]": r"'blocks\[0\]' to 'blocks\[3\]', .* got 'blocks\[-1\]'",
    "blocks[0, 1]": r"'blocks\[0\]' to 'blocks\[3\]', .* got 'blocks\[0, 1\]'",
    "head[0]": r"expected 'head', as the layer runs in no scan, got 'head\[0\]'",
    "blocks[one]": r"whole numbers in brackets.*got 'blocks\[one\]'",
    "blocks[]": "whole numbers in brackets",
    "block[3]": r"no layer 'block\[3\]'.*the nearest are .*'blocks\[3\]'",
}


@pytest.mark.parametrize("path", REFUSED)
def test_iterations_that_there_are_not(path):
    with pytest.raises(ValueError, match=f"path: .*{REFUSED[path]}"):
        cut(Network("plain"), path, vectors())


def test_a_scan_inside_a_scan_needs_two_indices():
    with pytest.raises(ValueError, match=r"'blocks\[0, 0\]' to 'blocks\[1, 2\]'"):
        cut(Network("nested"), "blocks[1]", vectors())
