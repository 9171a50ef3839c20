"""Where a network can be cut."""

import collections
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx
from jaxtyping import PyTree

from stitching.cutting._network import network


class CutPoint(NamedTuple):
    """One call of a layer.

    Attributes:
        path: the layer, as for `cut`.
        activation: shape and dtype of its output; a tree of them where the layer gives
            several arrays.
        call: which of the layer's calls, from 0.
        calls: how often the layer is called.
        severs: whether the network's output depends on its input only through here.
    """

    path: str
    activation: PyTree[jax.ShapeDtypeStruct]
    call: int
    calls: int
    severs: bool

    @property
    def shape(self) -> Any:
        """The shape of the output, or a tree of shapes."""
        return jax.tree.map(lambda array: array.shape, self.activation)

    @property
    def dtype(self) -> Any:
        """The dtype of the output, or a tree of dtypes."""
        return jax.tree.map(lambda array: array.dtype, self.activation)


def cut_points(
    module: nn.Module | nnx.Module,
    variables: PyTree,
    x: PyTree,
    *,
    method: str = "__call__",
    **options: Any,
) -> list[CutPoint]:
    """Lists the layers of a network at whose outputs it can be cut.

    Nothing is computed: the network is only traced.

    Args:
        module: a Linen or NNX module.
        variables: of the network, arrays or `ShapeDtypeStruct`s: what `init` gave, or
            `nnx.state(module)`.
        x: its input, or a `ShapeDtypeStruct`.
        method: the method that is called.
        **options: keyword arguments of that, for instance `train=False`.

    Returns:
        A point for each call of a layer, in the order in which the outputs are
        computed (layers of a block before the block). Layers that cannot be cut, inside
        a scan for instance, are left out.

    Raises:
        TypeError: if `module` is no module of Flax.
        ValueError: if the network is not frozen.

    Example:
        >>> import flax.linen as nn, jax, stitching
        >>> module = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
        >>> x = jax.ShapeDtypeStruct((4, 3), "float32")
        >>> variables = jax.eval_shape(module.init, jax.random.key(0), x)
        >>> for point in stitching.cut_points(module, variables, x):
        ...     print(point.path, point.shape, point.dtype, point.severs)
        layers_0 (4, 8) float32 True
        layers_2 (4, 2) float32 True
    """
    layers = network(module, method, options)
    layers.check_frozen(x)
    program = layers.program(variables, x, None)
    paths = [program.path(tag) for tag in range(len(program.tags))]
    calls, seen = collections.Counter(paths), collections.Counter()
    points = []
    for tag, path in enumerate(paths):
        activation, severs = program.activation(tag), program.severs(tag)
        points.append(CutPoint(path, activation, seen[path], calls[path], severs))
        seen[path] += 1
    return points
