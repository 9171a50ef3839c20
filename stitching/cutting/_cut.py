"""A network as a front and a back that meet at the output of a layer."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax import nnx
from jaxtyping import PyTree

from stitching.cutting._activation import conform, inputs_like
from stitching.cutting._network import Network, network
from stitching.cutting._program import Program


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A network in two halves: back(variables, front(variables, x)) is the network.

    Made by `cut` for a Flax module, or by hand from two functions, for any framework.

    Attributes:
        front: from variables and x to the activation at the cut.
        back: from variables and an activation to the network's output; where the cut
            does not sever it needs x as a third argument.
        severs: whether the output depends on x only through the activation.
        activation: shape and dtype of the activation for the x of `cut`; `None` if
            unknown.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> cut = stitching.Cut(
        ...     front=lambda variables, x: jnp.tanh(x @ variables["in"]),
        ...     back=lambda variables, activation: activation @ variables["out"],
        ... )
        >>> variables = {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
        >>> cut.back(variables, cut.front(variables, jnp.ones((5, 3)))).shape
        (5, 2)
    """

    front: Callable[..., PyTree]
    back: Callable[..., PyTree]
    severs: bool = True
    activation: PyTree[jax.ShapeDtypeStruct] | None = None


def cut(
    module: nn.Module | nnx.Module,
    path: str,
    x: PyTree,
    *,
    call: int | None = None,
    method: str = "__call__",
    **options: Any,
) -> Cut:
    """Cuts an unmodified Flax network at the output of a layer.

    `front(variables, x)` computes what the layer gives, and no more.
    `back(variables, activation)` computes the network's output with the activation in
    the place of what the layer gives; it needs x as a third argument if anything
    passes beside the cut, a residual branch for instance (`severs` is then False). Both
    are compiled, and work under `jit`, `vmap` and `grad`. Both are frozen: BatchNorm
    uses its running statistics, and Dropout is off.

    The network may get inputs of other shapes later; without x, `back` takes the batch
    size from the activation's leading axis. An activation is converted to the layer's
    floating-point dtype. A layer within `nn.vmap` gives the mapped axis first. A layer
    of an NNX module is found where it is called as `layer(x)`, not as
    `Layer.__call__(layer, x)`.

    Args:
        module: a Linen module, or an NNX module in evaluation mode.
        path: the layer, by its names in the variables: `"Dense_0"`, `"block/Conv_1"`.
            For a block, the output of its `__call__`. `cut_points` lists them.
        x: an example of the input, or its `ShapeDtypeStruct`.
        call: which call of a layer that is called more than once, from 0.
        method: the method that is called.
        **options: keyword arguments of that, for instance `train=False`.

    Returns:
        The two halves. Their `variables` are the network's: what `init` gave, or
        `nnx.state(module)`. An activation is an array, or a tree of arrays if the layer
        gives one.

    Raises:
        TypeError: if `module` is no module of Flax.
        ValueError: for an unknown path (the nearest names are told), a layer called
            more than once without `call`, one inside a scan, a loop or a branch, or a
            network that is not frozen. Later, from `back`: for an activation that does
            not fit, or without x where the cut does not sever.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, stitching
        >>> module = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
        >>> x = jnp.ones((4, 3))
        >>> variables = module.init(jax.random.key(0), x)
        >>> middle = stitching.cut(module, "layers_0", x)
        >>> activation = middle.front(variables, x)
        >>> activation.shape, middle.severs
        ((4, 8), True)
        >>> middle.back(variables, activation).shape
        (4, 2)
    """
    halves = _Halves(network(module, method, options), path, call, x)
    program = halves.example
    return Cut(
        jax.jit(halves.front),
        jax.jit(halves.back),
        program.severs(halves.tag),
        program.activation(halves.tag),
    )


class _Halves:
    """Front and back of a network, traced anew for every shape of the input."""

    def __init__(self, network: Network, path: str, call: int | None, x: PyTree):
        self._network, self._path = network, path
        self._x = jax.eval_shape(lambda x: x, x)
        network.check_frozen(self._x)
        variables = network.variables(self._x)
        self.example = network.program(variables, self._x, path)
        if not self.example.tags and not self.example.hidden:
            every = network.program(variables, self._x, None)
            raise ValueError(_unknown(path, every))
        self.tag = _which(self.example, path, call)

    def front(self, variables: PyTree, x: PyTree) -> PyTree:
        program = self._network.program(variables, x, self._path)
        return program.front(self.tag)(jax.tree.leaves((variables, x)))

    def back(self, variables: PyTree, activation: PyTree, x: PyTree = None) -> PyTree:
        alone = x is None
        if alone:
            x = inputs_like(self._x, self.example.activation(self.tag), activation)
        program = self._network.program(variables, x, self._path)
        if alone and not program.severs(self.tag):
            raise ValueError(
                f"x: the cut at {self._path!r} does not sever the network, its output "
                "also depends on x beside the cut; expected back(variables, "
                "activation, x), or a cut where `severs` is True (see cut_points)"
            )
        expected = program.activation(self.tag)
        activation = conform(activation, expected, self._path, alone)
        return program.back(self.tag)(jax.tree.leaves((variables, activation, x)))


def _unknown(path: str, program: Program) -> str:
    names = dict.fromkeys(map(program.path, range(len(program.tags))))
    names |= dict.fromkeys(name for name, _ in program.hidden)
    nearest = difflib.get_close_matches(path, names, n=3, cutoff=0.4) or list(names)[:8]
    return (
        f"path: the network calls no layer {path!r} with arrays as its output; "
        f"the nearest are {', '.join(map(repr, nearest))} (see cut_points)"
    )


def _which(program: Program, path: str, call: int | None) -> int:
    """The position of a call among the tags."""
    if program.hidden:
        place = ", ".join(sorted({place for _, place in program.hidden}))
        raise ValueError(
            f"path: layer {path!r} runs inside `{place}`, where its output is no value "
            "of the network; cut at the layer that holds it (see cut_points)"
        )
    calls = len(program.tags)
    if call is None and calls > 1:
        raise ValueError(
            f"call: expected call=0 to call={calls - 1}, as layer {path!r} is called "
            f"{calls} times, got none"
        )
    if call is not None and not 0 <= call < calls:
        raise ValueError(
            f"call: expected 0 to {calls - 1}, as layer {path!r} is called {calls} "
            f"times, got {call}"
        )
    return call or 0
