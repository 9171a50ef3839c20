"""The front of one network, a stitching layer, and the back of another."""

import dataclasses
import functools
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray, PyTree

from stitching._compiled import equal
from stitching.cutting import Cut
from stitching.layers._nnx import FromNNX


@dataclasses.dataclass(frozen=True, eq=False)
class Stitched:
    """Two halves and the layer between them; made by `stitch`.

    Equal ones share their compilations.

    Attributes:
        cut_1: its front is used.
        layer: the stitching layer, as functions `init` and `apply`.
        cut_2: its back is used.
    """

    cut_1: Cut
    layer: nn.Module | FromNNX
    cut_2: Cut

    def __hash__(self) -> int:
        # Modules are compared by their attributes, which need not be hashable.
        return hash((self.cut_1, type(self.layer), self.cut_2))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Stitched) and equal(*map(_fields, (self, other)))

    def init(self, key: PRNGKeyArray, variables_1: PyTree, x: PyTree) -> PyTree[Array]:
        """Initialise the layer for the activation of network 1 at x.

        The variables of an NNX layer are those that it had when it was stitched.
        """
        if isinstance(self.layer, FromNNX):
            return self.layer.variables
        return _init(self, key, variables_1, x)

    def apply(
        self, variables: PyTree, variables_1: PyTree, variables_2: PyTree, x: PyTree
    ) -> PyTree[Array]:
        """The output of the stitched network.

        Args:
            variables: of the layer.
            variables_1: of network 1.
            variables_2: of network 2.
            x: the input, which is both networks'.
        """
        activation = self.layer.apply(variables, self.cut_1.front(variables_1, x))
        return self.back(variables_2, activation, x)

    def back(self, variables_2: PyTree, activation: PyTree, x: PyTree) -> PyTree[Array]:
        """The output of network 2 for a mapped activation, and x where it takes it."""
        if _takes_x(self.cut_2):
            return self.cut_2.back(variables_2, activation, x)
        return self.cut_2.back(variables_2, activation)


def _fields(stitched: Stitched) -> tuple[Any, ...]:
    return stitched.cut_1, stitched.layer, stitched.cut_2


def _takes_x(cut: Cut) -> bool:
    """Whether a back takes x: to compute with, or at a bottleneck for its size."""
    if not cut.is_bottleneck:
        return True
    return list(inspect.signature(cut.back).parameters)[2:3] == ["x"]


def check_stitched(stitched: Any) -> None:
    """Raise a TypeError unless this is a stitched network."""
    if not isinstance(stitched, Stitched):
        raise TypeError(
            f"stitched: expected what stitching.stitch(cut_1, layer, cut_2) gives, got "
            f"{type(stitched).__name__}"
        )


@functools.partial(jax.jit, static_argnums=0)
def _init(stitched, key, variables_1, x):
    example = jax.eval_shape(stitched.cut_1.front, variables_1, x)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
    return stitched.layer.init(key, zeros)


def stitch(cut_1: Cut, layer: nn.Module | nnx.Module, cut_2: Cut) -> Stitched:
    """Join the front of network 1 to the back of network 2.

    Args:
        cut_1: network 1, cut.
        layer: a stitching layer, or any Flax module from one activation to the other,
            Linen or NNX. What trains is the collection "params", or the `nnx.Param`s;
            `nnx.update(layer, trained.variables["params"])` puts them back.
        cut_2: network 2, cut; may be the same cut, if the networks differ only in their
            variables.

    Returns:
        The `Stitched` network; `train` trains its layer.

    Raises:
        TypeError: if a cut is not a `Cut`, or the layer is not a Flax module.

    Example:
        >>> import flax.linen as nn, jax, stitching
        >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> x = jax.random.normal(jax.random.key(0), (64, 4))
        >>> a, b = (model.init(jax.random.key(seed), x) for seed in (1, 2))
        >>> cut = stitching.cut(model, "layers_0", x)
        >>> stitched = stitching.stitch(cut, stitching.layers.Affine(8), cut)
        >>> variables = stitched.init(jax.random.key(3), a, x)
        >>> stitched.apply(variables, a, b, x).shape
        (64, 3)

    References:
        Csiszárik et al., 2021, arXiv 2110.14633, section 3.
    """
    for name, each in (("cut_1", cut_1), ("cut_2", cut_2)):
        if not isinstance(each, Cut):
            raise TypeError(
                f"{name}: expected a stitching.Cut, got {type(each).__name__}; make "
                "one with stitching.cut(module, path, x)"
            )
    if isinstance(layer, nnx.Module):
        return Stitched(cut_1, FromNNX.of(layer), cut_2)
    if not isinstance(layer, nn.Module | FromNNX):
        raise TypeError(
            f"layer: expected an instance of a Flax module, for instance "
            f"stitching.layers.Affine(16), got {layer!r}"
        )
    return Stitched(cut_1, layer, cut_2)
