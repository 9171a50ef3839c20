"""Traced programs of networks: marked layers, halves, and what depends on what.

The only file here that uses JAX's internals. They are the same in all supported
versions, or the differences stay here.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_jaxpr
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    jaxprs_in_params,
)
from jax.interpreters import ad, batching
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

# ---- Marks: "this is the output of that layer".

# The identity on the arrays that a layer returns. It exists only in programs that are
# inspected, never in one that runs, so it needs no lowering.
mark_p = Primitive("mark")
mark_p.multiple_results = True


def mark(path: str, output: Any) -> Any:
    """The output of a layer with its arrays marked; as it is if it has none.

    The names of types among its leaves that are not arrays go with the mark.
    """
    leaves, tree = jax.tree.flatten(output)
    arrays = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    if not any(arrays):
        return output
    pairs = list(zip(leaves, arrays, strict=True))
    others = tuple(sorted({type(leaf).__name__ for leaf, array in pairs if not array}))
    marked = iter(
        mark_p.bind(
            *(jnp.asarray(leaf) for leaf, array in pairs if array),
            path=path,
            tree=tree,
            others=others,
        )
    )
    return tree.unflatten(next(marked) if array else leaf for leaf, array in pairs)


@mark_p.def_abstract_eval
def _abstract(*leaves, path, tree, others):
    return list(leaves)


def _linearise(primals, tangents, **params):
    return mark_p.bind(*primals, **params), list(tangents)


def _batch(leaves, axes, **params):
    # The outer axis first, whatever axis it was mapped over.
    pairs = list(zip(leaves, axes, strict=True))
    (size,) = {leaf.shape[axis] for leaf, axis in pairs if axis is not None}
    leaves = [batching.bdim_at_front(leaf, axis, size) for leaf, axis in pairs]
    return mark_p.bind(*leaves, **params), [0] * len(leaves)


ad.primitive_jvps[mark_p] = _linearise
batching.primitive_batchers[mark_p] = _batch


# ---- The program of a network, and its halves.

# Primitives that only call a program, which may be put in their place.
_CALLS = frozenset({"jit", "pjit", "checkpoint", "remat2", "closed_call", "core_call"})


class Half(NamedTuple):
    """The part of a program that some of its values need.

    Attributes:
        program: what is evaluated.
        constants: arrays that the network captured.
        used: which inputs it takes.
        tree: the structure of its result.
    """

    program: Jaxpr
    constants: Sequence[Any]
    used: Sequence[bool]
    tree: Any

    def __call__(self, inputs: Sequence[Any]) -> PyTree:
        """The result for flattened inputs."""
        wanted = [value for value, used in zip(inputs, self.used, strict=True) if used]
        return self.tree.unflatten(eval_jaxpr(self.program, self.constants, *wanted))


class Program(NamedTuple):
    """A network as one list of equations, marks among them.

    Attributes:
        closed: the equations; the inputs are the variables, then the network's.
        inputs: the number of flattened inputs of the network.
        tree: the structure of the network's output.
        marks: positions among the equations of marks on layers that return arrays only.
        mixed: path and types of layers that return something beside arrays.
        hidden: path and primitive of marks inside something that is more than a call,
            a scan for instance.
    """

    closed: ClosedJaxpr
    inputs: int
    tree: Any
    marks: Sequence[int]
    mixed: Mapping[str, Sequence[str]]
    hidden: Collection[tuple[str, str]]

    def path(self, number: int) -> str:
        """The layer of a mark."""
        return self._equation(number).params["path"]

    def activation(self, number: int) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the marked value."""
        equation = self._equation(number)
        avals: list[Any] = [variable.aval for variable in equation.outvars]
        return equation.params["tree"].unflatten(
            jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals
        )

    def front(self, *numbers: int) -> Half:
        """From variables and inputs to a tuple of marked values."""
        jaxpr, sources = _unmarked(self.closed.jaxpr)
        marks = [self.marks[number] for number in numbers]
        outputs = [atom for mark in marks for atom in sources[mark][1]]
        trees = [self._equation(number).params["tree"] for number in numbers]
        tree = jax.tree.structure(
            [tree.unflatten([0] * tree.num_leaves) for tree in trees]
        )
        last = max(sources[mark][0] for mark in marks)
        return self._half(jaxpr.replace(eqns=jaxpr.eqns[:last], outvars=outputs), tree)

    def back(self, number: int) -> Half:
        """From variables, the marked value and inputs to the output."""
        mark = self.marks[number]
        jaxpr, sources = _unmarked(self.closed.jaxpr, keep=mark)
        position = sources[mark][0]
        equation, count = jaxpr.eqns[position], len(jaxpr.invars) - self.inputs
        # What is printed before the cut is printed by the front.
        before = [e for e in jaxpr.eqns[:position] if e.outvars or not e.effects]
        half = jaxpr.replace(
            eqns=[*before, *jaxpr.eqns[position + 1 :]],
            invars=[*jaxpr.invars[:count], *equation.outvars, *jaxpr.invars[count:]],
        )
        return self._half(half, self.tree)

    def is_bottleneck(self, number: int) -> bool:
        """Whether the output depends on the inputs only through the marked value."""
        return not any(self.back(number).used[-self.inputs :])

    def _equation(self, number: int) -> JaxprEqn:
        return self.closed.jaxpr.eqns[self.marks[number]]

    def _half(self, jaxpr: Jaxpr, tree: Any) -> Half:
        program, used = dce_jaxpr(jaxpr, True)
        return Half(program, self.closed.consts, used, tree)


def trace(
    network: Callable[[Any, Any], Any], variables: PyTree, inputs: PyTree
) -> Program:
    """Traces a network with marks; calls that hold a mark are put in line.

    Args:
        network: from variables and inputs to outputs.
        variables: arrays, or shapes and dtypes.
        inputs: arrays, or shapes and dtypes.
    """
    hidden: set[tuple[str, str]] = set()
    trees = []

    def in_line(variables, inputs):
        closed, output = jax.make_jaxpr(network, return_shape=True)(variables, inputs)
        trees.append(jax.tree.structure(output))
        leaves = jax.tree.leaves((variables, inputs))
        return _put_in_line(closed.jaxpr, closed.consts, leaves, hidden)

    closed = jax.make_jaxpr(in_line)(variables, inputs)
    marks, mixed = [], {}
    for position, equation in enumerate(closed.jaxpr.eqns):
        if equation.primitive is mark_p and equation.params["others"]:
            mixed[equation.params["path"]] = equation.params["others"]
        elif equation.primitive is mark_p:
            marks.append(position)
    inputs = len(jax.tree.leaves(inputs))
    return Program(closed, inputs, trees[-1], marks, mixed, hidden)


def _put_in_line(
    jaxpr: Jaxpr,
    constants: Sequence[Any],
    inputs: Sequence[Any],
    hidden: set[tuple[str, str]],
) -> list[Any]:
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        name = equation.primitive.name
        operands = [read(atom) for atom in equation.invars]
        paths = set(_paths_inside(equation))
        if paths and name in _CALLS:
            inner, constants = _called(equation)
            results = _put_in_line(inner, constants, operands, hidden)
        else:
            hidden |= {(path, name) for path in paths}
            params = equation.primitive.get_bind_params(equation.params)
            with equation.ctx.manager:
                results = equation.primitive.bind(*operands, **params)
            if not equation.primitive.multiple_results:
                results = [results]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _unmarked(
    jaxpr: Jaxpr, keep: int | None = None
) -> tuple[Jaxpr, dict[int, tuple[int, list[Any]]]]:
    """The program without marks, but perhaps one; and where and on what they were."""
    same: dict[Any, Any] = {}

    def source(atom):
        return atom if isinstance(atom, Literal) else same.get(atom, atom)

    equations, found = [], {}
    for number, equation in enumerate(jaxpr.eqns):
        sources = [source(atom) for atom in equation.invars]
        if equation.primitive is mark_p:
            found[number] = len(equations), sources
            if number != keep:
                same |= dict(zip(equation.outvars, sources, strict=True))
                continue
        equations.append(equation.replace(invars=sources))
    outputs = [source(atom) for atom in jaxpr.outvars]
    return jaxpr.replace(eqns=equations, outvars=outputs), found


def _called(equation: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]]:
    params = equation.params
    program = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
    if isinstance(program, ClosedJaxpr):
        return program.jaxpr, program.consts
    return program, ()


def _paths_inside(equation: JaxprEqn) -> Iterator[str]:
    for inner in jaxprs_in_params(equation.params):
        for each in inner.eqns:
            if each.primitive is mark_p:
                yield each.params["path"]
            yield from _paths_inside(each)


# ---- What a value of a program is made of.

# What mapping over another axis than the first does to a value that is only passed on.
_MOVES = frozenset({"transpose", "reshape", "squeeze", "broadcast_in_dim", "copy"})


class Dependences:
    """How the output leaves of a function depend on the leaves of its arguments.

    Args:
        function: what is traced.
        *args: arrays, or shapes and dtypes.
    """

    def __init__(self, function: Callable[..., Any], *args: PyTree):
        closed, output = jax.make_jaxpr(function, return_shape=True)(*args)
        self._jaxpr = closed.jaxpr
        self._inputs, self._outputs = map(jax.tree.structure, (args, output))

    def changed(self) -> PyTree[bool]:
        """Which outputs are anything but an input that is passed on."""
        sources = [_source(self._jaxpr, atom) for atom in self._jaxpr.outvars]
        return self._outputs.unflatten(source is None for source in sources)

    def used(self, wanted: PyTree[bool]) -> tuple[PyTree[bool], ...]:
        """Which input leaves the wanted outputs may use, one tree per argument."""
        return self._inputs.unflatten(
            dce_jaxpr(self._jaxpr, jax.tree.leaves(wanted))[1]
        )


def _source(jaxpr: Jaxpr, atom: Any) -> Any:
    """The input that a value is, through calls, loops and branches; else `None`."""
    if isinstance(atom, Literal):
        return None
    if atom in jaxpr.invars:
        return atom
    for equation in jaxpr.eqns:
        if atom in equation.outvars:
            before = _passed_on(equation, equation.outvars.index(atom))
            return None if before is None else _source(jaxpr, before)
    return None


def _passed_on(equation: JaxprEqn, output: int) -> Any:
    """The operand that an equation returns as one of its outputs, or `None`."""
    if equation.primitive.name in _MOVES:
        return equation.invars[0]
    for inner in jaxprs_in_params(equation.params):
        # The predicate of a loop has fewer results than the loop.
        if len(inner.outvars) != len(equation.outvars):
            continue
        source = _source(inner, inner.outvars[output])
        if source is None:
            return None
        # Operands that choose a branch or that only the predicate sees come first.
        before = inner.invars.index(source) - len(inner.invars)
        return equation.invars[before]
    return None


# ---- Questions.


@functools.lru_cache(maxsize=1024)
def contains(jaxpr: Jaxpr | ClosedJaxpr, primitive: str) -> bool:
    """Whether a program, or one inside it, has a primitive of this name."""
    equations = getattr(jaxpr, "jaxpr", jaxpr).eqns
    return any(
        equation.primitive.name == primitive
        or any(contains(each, primitive) for each in jaxprs_in_params(equation.params))
        for equation in equations
    )
