"""What `cut` and its halves reject, and what they say."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from stitching.cutting import cut, cut_points
from tests.stitching.networks import (
    Compact,
    NnxNetwork,
    Noisy,
    Pair,
    Residual,
    Setup,
    Shared,
    images,
    initialised,
    vectors,
)


class Texts(nn.Module):
    """A layer that gives more than arrays."""

    @nn.compact
    def __call__(self, x):
        return Text(name="text")(x)[1]


class Text(nn.Module):
    """A name and an array."""

    @nn.compact
    def __call__(self, x):
        return "name", nn.Dense(2)(x)


class Branching(nn.Module):
    """A layer inside a branch."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(5, name="layer")
        if self.is_initializing():
            return layer(x)
        return nn.cond(
            x.sum() > 0, lambda m, x: layer_of(m, x), lambda m, x: x, self, x
        )


def layer_of(module, x):
    return nn.Dense(5, name="layer", parent=module)(x)


REFUSED = {
    "no module": (lambda x: x, "a", {}, TypeError, r"flax\.nnx\.Module, got .*Cut\("),
    "a typing error": (Compact(), "Dense1", {}, ValueError, "'Dense1'.*'Dense_1'"),
    "the whole": (Compact(), "", {}, ValueError, "path: .* ''"),
    "a name far off": (Compact(), "??", {}, ValueError, "'Dense_0', 'Dense_1'"),
    "not called": (Setup(), "head", {"method": "features"}, ValueError, "'layers_1'"),
    "NNX": (NnxNetwork(nnx.Rngs(0)), "blocks/0", {}, ValueError, r"module\.eval\(\)"),
    "which call": (
        Shared(),
        "shared",
        {},
        ValueError,
        "expected call=0 to call=2, as .* 3 times",
    ),
    "no such call": (Shared(), "shared", {"call": 3}, ValueError, "0 to 2, .* got 3"),
    "negative": (Shared(), "shared", {"call": -1}, ValueError, "0 to 2, .* got -1"),
    "call of one": (Shared(), "head", {"call": 1}, ValueError, "1 times"),
    "a branch": (Branching(), "layer", {}, ValueError, "inside `cond`"),
    "texts": (
        Texts(),
        "text",
        {},
        ValueError,
        "layer 'text' returns str besides its arr",
    ),
    "dropout": (Noisy(), "Dense_0", {}, ValueError, "frozen; pass .*`train=False`"),
    "statistics": (Residual(), "stem", {"train": True}, ValueError, "frozen; pass"),
    "rngs": (Noisy(), "Dense_0", {"rngs": {}}, ValueError, "rngs: "),
    "mutable": (Compact(), "Dense_0", {"mutable": True}, ValueError, "mutable: "),
    "method": (
        Compact(),
        "Dense_0",
        {"method": "run"},
        ValueError,
        "a method of Compact.* got 'run'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_cuts_that_are_rejected(case):
    module, path, options, error, message = REFUSED[case]
    x = images() if isinstance(module, Residual) else vectors()
    x = vectors(4, 6) if isinstance(module, nnx.Module) else x
    with pytest.raises(error, match=message):
        cut(module, path, x, **options)


def test_a_list_of_points_is_rejected_likewise():
    x = vectors()
    variables = initialised(Noisy(), x, deterministic=True)
    with pytest.raises(ValueError, match="frozen; pass"):
        cut_points(Noisy(), variables, x)
    no_module: Any = None
    with pytest.raises(TypeError, match="module: "):
        cut_points(no_module, variables, x)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (
            (4, 7),
            "float32",
            r"activation: expected shape \(4, 8\), as layer 'Dense_0' returns, got",
        ),
        ((8,), "float32", r"got \(8,\)"),
        (
            (4, 8, 3),
            "float32",
            r"first, or pass x if its size is not that of the exampl",
        ),
        ((4, 8), "int32", "float32 or .* returns, got int32"),
        ((4, 8), "complex64", "float32 or .* returns, got complex64"),
    ],
)
def test_activations_that_do_not_fit(shape, dtype, message):
    x = vectors()
    variables = initialised(Compact(), x)
    halves = cut(Compact(), "Dense_0", x)
    with pytest.raises(ValueError, match=message):
        halves.back(variables, jnp.zeros(shape, dtype))


def test_activations_of_another_structure():
    x = vectors()
    variables = initialised(Pair(), x)
    halves = cut(Pair(), "double", x)
    with pytest.raises(
        ValueError, match=r"expected PyTreeDef\(.*'unused'.* returns, got"
    ):
        halves.back(variables, jnp.zeros((4, 4)))


def test_a_cut_that_is_no_bottleneck_needs_x():
    module, x = Residual(), images()
    variables = initialised(module, x)
    halves = cut(module, "first/dense", x)
    with pytest.raises(
        ValueError, match="x: the cut at 'first/dense' is not a bottleneck"
    ):
        halves.back(variables, jnp.zeros((2, 4, 4, 4)))
    with pytest.raises(ValueError, match="is not a bottleneck"):
        jax.eval_shape(halves.back, variables, halves.activation)


def test_another_batch_size_than_x():
    module, x = Compact(), vectors()
    variables = initialised(module, x)
    halves = cut(module, "Dense_0", x)
    with pytest.raises(
        ValueError, match=r"shape \(3, 8\), as .* returns, got \(4, 8\)"
    ):
        halves.back(variables, jnp.zeros((4, 8)), x[:3])
