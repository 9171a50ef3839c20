"""Networks with several inputs, methods by function, options, and wrong variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from stitching.cutting import cut, cut_points
from tests.stitching.networks import (
    Masked,
    NnxMasked,
    NnxNetwork,
    Residual,
    images,
    initialised,
    vectors,
)

TOKENS = jnp.arange(12).reshape(4, 3) % 7
MASK = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, 3)), jnp.float32)


def _linen():
    module = Masked()
    return module, initialised(module, TOKENS), module.apply


def _nnx():
    module = NnxMasked(nnx.Rngs(0))

    def apply(variables, *args, method="__call__"):
        return getattr(nnx.merge(nnx.graphdef(module), variables), method)(*args)

    return module, nnx.state(module), apply


METHODS = {
    "positional": lambda module: "__call__",
    "a name": lambda module: "both",
    "a bound method": lambda module: module.both,
    "a method of the class": lambda module: type(module).both,
    "a function": lambda module: lambda m, tokens, mask: m(tokens, mask=mask),
}


@pytest.mark.parametrize("made", [_linen, _nnx])
@pytest.mark.parametrize("method", METHODS)
def test_several_inputs_are_a_tuple(made, method):
    module, variables, apply = made()
    options = {"method": METHODS[method](module)}
    inputs = (TOKENS, MASK)
    wanted = apply(variables, *inputs)
    halves = cut(module, "enc", inputs, **options)
    activation = halves.front(variables, inputs)
    assert activation.shape == (4, 3, 4)
    assert not halves.is_bottleneck  # The mask passes beside the layer.
    got = halves.back(variables, activation, inputs)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="x: the cut at 'enc' is not a bottleneck"):
        halves.back(variables, activation)
    head = cut(module, "head", inputs, **options)
    given = jnp.ones((9, 3, 2))  # Another batch size than the example's.
    np.testing.assert_array_equal(head.back(variables, given), given)
    points = cut_points(module, variables, inputs, **options)
    assert [p.path for p in points] == ["embed", "enc", "head"]
    assert [p.is_bottleneck for p in points] == [False, False, True]


def test_an_input_without_a_batch_keeps_its_size():
    class Causal(nn.Module):
        @nn.compact
        def __call__(self, x, mask):
            y = jnp.where(mask, x[:, :, None], 0).sum(1)
            return nn.Dense(2, name="head")(nn.Dense(3, name="first")(y))

    module, inputs = Causal(), (vectors(6, 5), jnp.ones((5, 5), bool))
    variables = module.init(jax.random.key(0), *inputs)
    halves = cut(module, "first", inputs)
    more = (vectors(8, 5), inputs[1])
    got = halves.back(variables, halves.front(variables, more))
    np.testing.assert_allclose(got, module.apply(variables, *more), rtol=1e-5)


def test_one_input_may_itself_be_a_tuple():
    class Carried(nn.Module):
        @nn.compact
        def __call__(self, pair):
            return nn.Dense(2, name="head")(pair[0] + pair[1])

    module, pair = Carried(), (vectors(), vectors() + 1)
    variables = module.init(jax.random.key(0), pair)
    halves = cut(module, "head", (pair,))
    given = halves.front(variables, (pair,))
    np.testing.assert_allclose(given, module.apply(variables, pair), rtol=1e-6)


class Scaled(nn.Module):
    """What it does depends on an attribute that may change, and on a shape."""

    config: dict

    @nn.compact
    def __call__(self, x):
        if len(x) > 1:
            x = nn.Dense(5, name="mean")(x - x.mean(0))
        return nn.Dense(2, name="head")(x * self.config["scale"])


def test_a_linen_module_is_frozen_with_what_it_holds():
    config = {"scale": 2.0}
    module, x = Scaled(config), vectors()
    variables = module.init(jax.random.key(0), x)
    halves, wanted = cut(module, "mean", x), module.apply(variables, x[:2])
    config["scale"] = 9.0
    got = halves.back(variables, halves.front(variables, x[:2]))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_a_layer_that_other_inputs_do_not_reach_is_named():
    module, x = Scaled({"scale": 2.0}), vectors()
    variables = module.init(jax.random.key(0), x)
    halves = cut(module, "mean", x)
    activation = halves.front(variables, x)
    for call in (
        lambda: halves.front(variables, x[:1]),
        lambda: halves.back(variables, activation, x[:1]),
    ):
        with pytest.raises(ValueError, match=r"x: .*'mean' is called .* got \(\(1, 5"):
            call()


OPTIONS = {
    "an array": MASK,
    "of NumPy": np.asarray(MASK),
    "one number": jnp.asarray(0.5),
    "in a dictionary": {"inner": [MASK]},
    "a shape": jax.ShapeDtypeStruct((4, 3), "float32"),
}


@pytest.mark.parametrize("made", [_linen, _nnx])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_hold_arrays_are_inputs(made, option):
    module, variables, _ = made()
    for call in (
        lambda: cut(module, "enc", TOKENS, mask=OPTIONS[option]),
        lambda: cut_points(module, variables, TOKENS, mask=OPTIONS[option]),
    ):
        with pytest.raises(TypeError, match=r"mask: .*several inputs.*\(x, mask\)"):
            call()


@pytest.mark.parametrize("made", [_linen, _nnx])
@pytest.mark.parametrize("method", ["none", 3, Residual().clone, nn.Dense(1).apply])
def test_methods_that_are_none_of_the_module(made, method):
    module, _, _ = made()
    with pytest.raises(ValueError, match="method: expected the name of a method of "):
        cut(module, "enc", TOKENS, method=method)


class Counted(nn.Module):
    """A layer that returns a number besides its array, as Python's or as an array."""

    beside: object

    @nn.compact
    def __call__(self, x):
        class Encoder(nn.Module):
            @nn.compact
            def __call__(self, x, beside):
                return nn.Dense(3, name="inner")(x), beside

        x, _ = Encoder(name="enc")(x, self.beside)
        return nn.Dense(2, name="head")(x)


@pytest.mark.parametrize(("beside", "kind"), [(3, "int"), (0.0, "float"), ("a", "str")])
def test_layers_that_return_more_than_arrays_say_what(beside, kind):
    module, x = Counted(beside), vectors()
    with pytest.raises(ValueError, match=f"'enc' returns {kind} besides its arrays"):
        cut(module, "enc", x)
    variables = initialised(module, x)
    assert [p.path for p in cut_points(module, variables, x)] == ["enc/inner", "head"]
    assert cut(module, "enc/inner", x).is_bottleneck


def test_nothing_beside_an_array_is_no_hindrance():
    assert cut(Counted(None), "enc", vectors()).activation[1] is None


NNX = NnxNetwork(nnx.Rngs(0))
NNX.eval()
RESIDUAL = initialised(Residual(), images())
WRONG = {
    "parameters only": (
        NNX,
        nnx.state(NNX, nnx.Param),
        ValueError,
        r"variables: expected nnx.state\(module\), all .*'blocks/0/norm/mean'",
    ),
    "the module": (NNX, NNX, TypeError, r"nnx.state\(module\), got NnxNetwork"),
    "a split": (NNX, nnx.split(NNX), TypeError, "got tuple"),
    "of another module": (
        NNX,
        nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0))),
        ValueError,
        "nothing of that name",
    ),
    "of another width": (
        nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0))),
        nnx.state(nnx.Sequential(nnx.Linear(2, 4, rngs=nnx.Rngs(0)))),
        ValueError,
        r"'layers/0/bias' of shape \(3,\), got \(4,\)",
    ),
    "no batch statistics": (
        Residual(),
        {"params": RESIDUAL["params"]},
        ValueError,
        "variables: .*'batch_stats/first/norm/.*collections are 'params'",
    ),
    "the inner dictionary": (
        Residual(),
        RESIDUAL["params"],
        ValueError,
        "variables: expected what module.init returns, with ",
    ),
    "a Linen module": (Residual(), Residual(), TypeError, "got Residual"),
    "a state of NNX": (
        Residual(),
        nnx.state(NNX),
        ValueError,
        "variables: expected what module.init returns, with ",
    ),
    "other shapes": (
        Residual(),
        jax.tree.map(lambda leaf: leaf[..., :1], RESIDUAL),
        ValueError,
        r"variables: .* of shape \(",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_variables_are_named(case):
    module, variables, error, words = WRONG[case]
    x = images() if isinstance(module, Residual) else vectors(4, 6)
    path = "head"
    if isinstance(module, nnx.Sequential):
        path, x = "layers/0", vectors(4, 2)
    halves = cut(module, path, x)
    for call in (
        lambda: halves.front(variables, x),
        lambda: halves.back(variables, halves.activation, x),
        lambda: cut_points(module, variables, x),
    ):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize(
    "given",
    [
        lambda module: nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)),
        lambda module: nnx.to_pure_dict(nnx.state(module)),
        lambda module: nnx.split(module)[1],
    ],
)
def test_variables_may_come_without_random_numbers_and_as_arrays(given):
    x = vectors(4, 6)
    halves = cut(NNX, "blocks/1", x)
    wanted = halves.front(nnx.state(NNX), x)
    np.testing.assert_array_equal(halves.front(given(NNX), x), wanted)
