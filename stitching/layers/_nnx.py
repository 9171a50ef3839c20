"""Stitching layers as NNX modules, and NNX modules as stitching layers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from stitching.direct._fit import Fit
from stitching.layers._stitching_layer import StitchingLayer, check_layer


class Fixed(nnx.Variable):
    """What a stitching layer does not train, such as a mask."""


class NNXStitchingLayer(nnx.Module):
    """A stitching layer as an NNX module; made by `to_nnx`.

    What trains are `nnx.Param`s, named as in the layer's "params".
    """

    def __init__(self, layer: StitchingLayer, variables: Mapping[str, Any]):
        self.layer = layer
        self.names = tuple((kind, n) for kind, tree in variables.items() for n in tree)
        for kind, name in self.names:
            make = nnx.Param if kind == "params" else Fixed
            setattr(self, name, make(jnp.array(variables[kind][name])))

    @property
    def variables(self) -> dict[str, dict[str, Array]]:
        """The layer's variables, as it is now."""
        found: dict[str, dict[str, Array]] = {}
        for kind, name in self.names:
            found.setdefault(kind, {})[name] = getattr(self, name)[...]
        return found

    def __call__(self, activation: Float[ArrayLike, "*n p"]) -> Float[Array, "*n q"]:
        """The map of an activation, channels last."""
        found: Any = self.layer.apply(self.variables, activation)
        return found

    def fit(self) -> Fit:
        """The map as it is, as an array."""
        return self.layer.fit(self.variables)


def to_nnx(layer: StitchingLayer, variables: Mapping[str, Any]) -> NNXStitchingLayer:
    """Make an NNX module of a stitching layer.

    Args:
        layer: any stitching layer.
        variables: of the layer: from `layers.from_fit`, from `stitching.train`, or
            fresh ones from `layer.init(key, activation)`. They are copied.

    Returns:
        The module; `module(activation)` and `module.fit()` are the layer's map.

    Raises:
        TypeError: if the layer is not a stitching layer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from stitching import layers
        >>> layer = layers.LowRank(3, rank=1)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> module = layers.to_nnx(layer, variables)
        >>> module(jnp.ones((2, 4))).shape, list(nnx.state(module, nnx.Param))
        ((2, 3), ['bias', 'left', 'right'])
    """
    check_layer(layer)
    return NNXStitchingLayer(layer, variables)


@dataclasses.dataclass(frozen=True)
class FromNNX:
    """An NNX module as functions of its variables; those of equal structure are equal.

    Attributes:
        graph: the module without its arrays.
        variables: its `nnx.Param`s as "params", and all else as "fixed".
    """

    graph: Any
    variables: dict[str, PyTree] = dataclasses.field(compare=False)

    @classmethod
    def of(cls, module: nnx.Module) -> "FromNNX":
        """Of a module, as it is in evaluation."""
        copy = nnx.clone(module)
        copy.eval()
        graph, params, fixed = nnx.split(copy, nnx.Param, ...)
        return cls(graph, {"params": params, "fixed": fixed})

    def init(self, key: Any, activation: PyTree) -> dict[str, PyTree]:
        """The variables that the module has."""
        del key, activation
        return self.variables

    def apply(self, variables: Mapping[str, PyTree], activation: PyTree) -> PyTree:
        """The output of the module with these variables."""
        return self._module(variables)(activation)

    @property
    def module(self) -> Any:
        """A module with the variables that it had."""
        return self._module(self.variables)

    @property
    def fit(self) -> Callable[[Mapping[str, PyTree]], Fit]:
        """The map of the module, for one that has a method `fit`."""
        if not hasattr(self.module, "fit"):
            raise AttributeError("the module has no method `fit`")
        return lambda variables: self._module(variables).fit()

    def _module(self, variables: Mapping[str, PyTree]) -> Any:
        return nnx.merge(self.graph, variables["params"], variables["fixed"])
