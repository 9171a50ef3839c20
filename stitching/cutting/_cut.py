"""A network as a front and a back that meet at the output of a layer."""

import collections
import dataclasses
import difflib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, PyTree

from stitching._jaxpr import Program
from stitching.cutting._network import Method, network


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A network in two halves: back(variables, front(variables, x)) is the network.

    Made by `cut` for a Flax module, or by hand from two functions, for any framework.

    Attributes:
        front: from variables and x to the activation at the cut.
        back: from variables and an activation to the network's output; where the cut
            is not a bottleneck it needs x as a third argument. At a bottleneck it may
            take x, by that name, for its shape alone.
        is_bottleneck: whether the output depends on x only through the activation.
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
    is_bottleneck: bool = True
    activation: PyTree[jax.ShapeDtypeStruct] | None = None


def cut(
    module: nn.Module | nnx.Module,
    path: str,
    x: PyTree,
    *,
    call: int | None = None,
    method: Method = "__call__",
    **options: Any,
) -> Cut:
    """Cut an unmodified Flax network at the output of a layer.

    `front(variables, x)` computes the output of the layer, and no more.
    `back(variables, activation)` computes the network's output with the activation in
    place of the layer's output. It needs x as a third argument if the output depends
    on x in other ways too, through a residual branch for instance (`is_bottleneck` is
    then False). Both are compiled, and work under `jit`, `vmap` and `grad`.

    Both are frozen: BatchNorm uses its running statistics, Dropout is off, and what
    happens to the module later does not reach them. Only the variables are passed at
    each call; those of `nnx.state(module)` are the module's own and change with it,
    those of `nnx.state(nnx.clone(module))` do not.

    The network may get inputs of other shapes later; without x, `back` takes the batch
    size from the activation's leading axis, and other sizes from the example. An
    activation is converted to the layer's floating-point dtype. A layer within
    `nn.vmap` returns the mapped axis first. A layer of an NNX module is found where it
    is called as `layer(x)`, not as `Layer.__call__(layer, x)`.

    A layer inside a scan (`nn.scan`, `nn.remat_scan`, `nnx.scan`, `jax.lax.scan`) is
    cut in one iteration: the scan becomes one over the iterations before, that
    iteration, and one over those after it. Where a scanned block returns the carry, the
    activation is what the block computes of it from the network's inputs; a mask that
    it passes on, a counter and stacked outputs are left out, and `back` gets them from
    x where it needs them.

    Args:
        module: a Linen module, or an NNX module in evaluation mode.
        path: the layer, by its names in the variables: `"Dense_0"`, `"block/Conv_1"`.
            For a block, the output of its `__call__`. Inside a scan with the iteration,
            by its place in the stacked variables: `"blocks[3]"`, `"blocks[3]/mlp"`, in
            scans inside scans `"blocks[1, 2]"`; a step of a recurrent network is
            `"cell[3]"`. `cut_points` lists them, except such steps.
        x: an example of the input, or its `ShapeDtypeStruct`; a tuple of them for
            several inputs, as in `front(variables, (tokens, mask))`. One input that
            itself is a tuple or list is `(x,)`.
        call: which call of a layer that is called more than once, from 0.
        method: the name of the method that is called, or a function of the module and
            its inputs.
        **options: keyword arguments of that, for instance `train=False`; no arrays.

    Returns:
        The two halves. Their `variables` are the network's: what `init` returned, or
        `nnx.state(module)`. An activation is an array, or a tree of arrays if the layer
        returns one.

    Raises:
        TypeError: if `module` is not a Flax module, `path` is not a string, x is a
            list, or an option holds an array. Later, for variables of another kind.
        ValueError: for an unknown path (the message lists the nearest names), a layer
            called more than once without `call`, one in a scan without an iteration or
            with one that the scan does not have, a layer inside a `while` loop or a
            branch, one that returns more than arrays, or a network that is not frozen.
            Later, for variables or an activation that do not fit, or without x where
            the cut is not a bottleneck.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, stitching
        >>> module = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
        >>> x = jnp.ones((4, 3))
        >>> variables = module.init(jax.random.key(0), x)
        >>> middle = stitching.cut(module, "layers_0", x)
        >>> activation = middle.front(variables, x)
        >>> activation.shape, middle.is_bottleneck
        ((4, 8), True)
        >>> middle.back(variables, activation).shape
        (4, 2)
    """
    if not isinstance(path, str):
        raise TypeError(f"path: expected the path of a layer as text, got {path!r}")
    example = jax.eval_shape(lambda x: x, _inputs(x))
    layers = network(module, method, options, example)
    variables = layers.example(example)
    readings = _readings(path)
    for layer, index in [*readings, readings[0]]:  # for its errors if there is none
        program = layers.program(variables, example, layer, {index})
        if layer in program.mixed or program.find(layer, index):
            break
    mark = _which(
        program,
        (layer, index),
        path,
        call,
        lambda: layers.program(variables, example, None, "all"),
    )
    expected = program.activation(mark)

    def traced(variables, inputs):
        program = layers.program(variables, inputs, layer, {index})
        if mark >= len(program.marks):
            raise ValueError(
                f"x: expected inputs for which layer {path!r} is called as for the "
                f"example of shape {jax.tree.map(jnp.shape, example)}, got "
                f"{jax.tree.map(jnp.shape, inputs)}"
            )
        return program

    @jax.jit
    def front(variables, inputs):
        program = traced(variables, inputs)
        return program.front(mark)(jax.tree.leaves((variables, inputs)))[0]

    @jax.jit
    def back(variables, activation, inputs):
        alone = inputs is None
        if alone:
            inputs = _inputs_like(example, expected, activation)
        program = traced(variables, inputs)
        if alone and not program.is_bottleneck(mark):
            raise ValueError(
                f"x: the cut at {path!r} is not a bottleneck, the network's output "
                "depends on x in other ways too; expected back(variables, activation, "
                "x), or a cut where `is_bottleneck` is True (see cut_points)"
            )
        activation = _conform(activation, program.activation(mark), path, alone)
        return program.back(mark)(jax.tree.leaves((variables, activation, inputs)))

    return Cut(
        lambda variables, x: front(layers.plain(variables), _inputs(x)),
        lambda variables, activation, x=None: back(
            layers.plain(variables), activation, None if x is None else _inputs(x)
        ),
        program.is_bottleneck(mark),
        expected,
    )


class CutPoint(NamedTuple):
    """One call of a layer.

    Attributes:
        path: the layer, as for `cut`; inside a scan with the iteration.
        activation: shape and dtype of its output; a tree of them where the layer
            returns several arrays.
        call: which of the layer's calls, from 0.
        calls: how often the layer is called.
        is_bottleneck: whether the network's output depends on its input only through
            this one.
    """

    path: str
    activation: PyTree[jax.ShapeDtypeStruct]
    call: int
    calls: int
    is_bottleneck: bool

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
    method: Method = "__call__",
    **options: Any,
) -> list[CutPoint]:
    """List the layers of a network at whose outputs it can be cut.

    Nothing is computed: the network is only traced.

    Args:
        module: a Linen or NNX module.
        variables: of the network, arrays or `ShapeDtypeStruct`s: what `init` returned,
            or `nnx.state(module)`.
        x: its input, or a `ShapeDtypeStruct`; a tuple for several inputs.
        method: the name of the method that is called, or a function, as for `cut`.
        **options: keyword arguments of that, for instance `train=False`.

    Returns:
        A point for each call of a layer, and for each iteration of a scan over layers,
        in the order in which the outputs are computed (layers of a block before the
        block). Layers that cannot be cut, inside a branch for instance, are left out,
        and so are the steps of a recurrent network: those of a scan whose iterations
        share their variables. `cut` takes them by index.

    Raises:
        TypeError: if `module` is not a Flax module, or for variables of another kind.
        ValueError: if the network is not frozen, or variables do not fit.

    Example:
        >>> import flax.linen as nn, jax, stitching
        >>> module = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
        >>> x = jax.ShapeDtypeStruct((4, 3), "float32")
        >>> variables = jax.eval_shape(module.init, jax.random.key(0), x)
        >>> for point in stitching.cut_points(module, variables, x):
        ...     print(point.path, point.shape, point.dtype, point.is_bottleneck)
        layers_0 (4, 8) float32 True
        layers_2 (4, 2) float32 True
    """
    example = jax.eval_shape(lambda x: x, _inputs(x))
    layers = network(module, method, options, example)
    program = layers.program(layers.plain(variables), example, None, "layers")
    paths = [program.name(mark) for mark in range(len(program.marks))]
    calls, seen = collections.Counter(paths), collections.Counter()
    points = []
    for mark, bottleneck in enumerate(program.bottlenecks()):
        path, activation = paths[mark], program.activation(mark)
        points.append(CutPoint(path, activation, seen[path], calls[path], bottleneck))
        seen[path] += 1
    return points


def layer_outputs(
    module: Any,
    variables: PyTree,
    x: PyTree,
    paths: Sequence[str] | None,
    method: Method,
    options: Mapping[str, Any],
) -> dict[str, Array]:
    """The outputs of the layers of these paths, or of all that return one array.

    Raises:
        TypeError, ValueError: as `cut_points`, and for unknown layers.
    """
    inputs = _inputs(x)
    example = jax.eval_shape(lambda x: x, inputs)
    layers = network(module, method, options, example)
    plain = layers.plain(variables)
    wanted = "layers" if paths is None else _indices(paths)
    program = layers.program(plain, inputs, None, wanted)
    found = _arrays(program)
    if program.marks and not found:
        raise ValueError(
            "batches: expected batches for which layers return arrays of shape "
            f"(samples, ..., channels), got one of shape "
            f"{', '.join(str(leaf.shape) for leaf in jax.tree.leaves(example))}; one "
            "batch alone is [x]"
        )
    names = list(found) if paths is None else list(paths)
    unknown = [name for name in names if name not in found]
    if unknown or not names:
        known = list(_arrays(layers.program(plain, inputs, None, "layers")))
        raise ValueError(
            f"layers: expected some of {known}, or steps of a recurrent network such "
            f"as 'cell[3]', got {unknown}"
        )
    values = program.front(*map(found.__getitem__, names))
    outputs = values(jax.tree.leaves((plain, inputs)))
    return dict(zip(names, outputs, strict=True))


def _arrays(program: Program) -> dict[str, int]:
    """The calls of layers that return one array with samples and channels, by name."""
    found, calls = {}, collections.Counter()
    for mark in range(len(program.marks)):
        path, activation = program.name(mark), program.activation(mark)
        name = f"{path}, call {calls[path]}" if calls[path] else path
        if isinstance(activation, jax.ShapeDtypeStruct) and len(activation.shape) > 1:
            found[name] = mark
        calls[path] += 1
    return found


def _inputs(x: PyTree) -> tuple[PyTree, ...]:
    if isinstance(x, list):
        raise TypeError(
            "x: expected an array, or a tuple of several inputs, got a list; one input "
            "that itself is a list is (x,)"
        )
    return x if type(x) is tuple else (x,)


# The names of a layer, and the iterations it is in.
Place = tuple[str, tuple[int, ...]]


def _readings(path: str) -> list[Place]:
    """What a path may mean: brackets are iterations, `blocks[1, 2]`, or part of a name.

    The most iterations come first, the path as it is last.
    """
    parts = re.split(r"(\[[^\[\]]*\])", path)
    found = []
    for named in itertools.product((False, True), repeat=len(parts) // 2):
        kept = list(itertools.chain(*((True, name) for name in named), (True,)))
        layer = "".join(itertools.compress(parts, kept))
        iterations = [part for part, name in zip(parts, kept, strict=True) if not name]
        try:
            index = tuple(int(i) for part in iterations for i in part[1:-1].split(","))
        except ValueError:  # no whole numbers
            continue
        found.append((layer, index))
    return found


def _indices(paths: Sequence[str]) -> set[tuple[int, ...]]:
    return {index for path in paths for _, index in _readings(path)}


def _which(
    program: Program,
    place: Place,
    path: str,
    call: int | None,
    everything: Callable[[], Program],
) -> int:
    """The position of a call of a layer among the marks."""
    layer, index = place
    if layer in program.mixed:
        raise ValueError(
            f"path: layer {path!r} returns {', '.join(program.mixed[layer])} besides "
            "its arrays, but only arrays can be replaced; cut at a layer inside it or "
            "after it (see cut_points)"
        )
    marks = program.find(layer, index)
    if not marks and "[" in layer:
        raise ValueError(
            f"path: expected whole numbers in brackets, which are iterations of a "
            f"scan, got {path!r}"
        )
    if not marks or any(place != "scan" for _, place in program.hidden):
        raise ValueError(_no_mark(layer, path, everything()))
    calls = len(marks)
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
    return marks[call or 0]


def _no_mark(layer: str, path: str, program: Program) -> str:
    """Why a layer cannot be cut, from the program of all layers and iterations."""
    inside = sorted({place for name, place in program.hidden if name == layer})
    if inside:
        return (
            f"path: layer {path!r} runs inside `{', '.join(inside)}`, where its output "
            "is not a value of the network; cut at the layer that holds it (see "
            "cut_points)"
        )
    marks = range(len(program.marks))
    names = [program.name(mark) for mark in marks]
    same = [program.name(mark) for mark in marks if program.path(mark) == layer]
    if same:
        first, last = same[0], same[-1]
        expected = repr(first) if first == last else f"{first!r} to {last!r}"
        where = "in no scan" if first == layer else "in a scan"
        return f"path: expected {expected}, as the layer runs {where}, got {path!r}"
    known = list(dict.fromkeys([*names, *(name for name, _ in program.hidden)]))
    nearest = difflib.get_close_matches(path, known, n=3, cutoff=0.4) or known[:8]
    return (
        f"path: the network calls no layer {path!r} with arrays as its output; the "
        f"nearest are {', '.join(map(repr, nearest))} (see cut_points)"
    )


def _inputs_like(
    example: tuple[PyTree, ...], expected: PyTree, activation: PyTree
) -> PyTree[Array]:
    """Zeros in place of inputs that are not used, for the batch of an activation.

    Args:
        example: shapes and dtypes of some inputs; those whose leading axis is as long
            as the first one's hold a batch.
        expected: the activation for them.
        activation: what takes its place.
    """
    batch, old, new = (
        next((jnp.shape(leaf)[0] for leaf in jax.tree.leaves(tree)[:1] if leaf.ndim), 0)
        for tree in (example, expected, activation)
    )

    def zeros(array):
        shape = array.shape
        if shape and shape[0] == batch and old and new:
            shape = (max(1, batch * new // old), *shape[1:])
        return jnp.zeros(shape, array.dtype)

    return jax.tree.map(zeros, example)


def _conform(activation: PyTree, expected: PyTree, path: str, alone: bool) -> PyTree:
    """An activation in the dtype of the layer's output.

    Raises:
        ValueError: if structure, shape or kind differ.
    """
    trees = jax.tree.structure(activation), jax.tree.structure(expected)
    if trees[0] != trees[1]:
        raise ValueError(
            f"activation: expected {trees[1]}, as layer {path!r} returns, got "
            f"{trees[0]}"
        )

    def convert(array, wanted):
        floats = [jnp.issubdtype(a.dtype, jnp.floating) for a in (array, wanted)]
        if array.shape != wanted.shape:
            hint = ", or pass x if its size is not that of the example" if alone else ""
            raise ValueError(
                f"activation: expected shape {wanted.shape}, as layer {path!r} "
                f"returns, got {array.shape}; map the activation to that shape first"
                f"{hint}"
            )
        if array.dtype != wanted.dtype and not all(floats):
            raise ValueError(
                f"activation: expected {wanted.dtype} or the same kind of numbers, as "
                f"layer {path!r} returns, got {array.dtype}"
            )
        return array.astype(wanted.dtype)

    return jax.tree.map(convert, activation, expected)
