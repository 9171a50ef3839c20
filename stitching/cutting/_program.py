"""The traced program of a network whose layers are tagged, and its two halves."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

from stitching.cutting._tag import tag_p

# What only calls a program, so that the program may be put in its place.
_CALLS = frozenset({"jit", "pjit", "checkpoint", "remat2", "closed_call", "core_call"})


class Half(NamedTuple):
    """A part of a program that is needed for some of its values.

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
    """A network as one list of equations, tags among them.

    Attributes:
        closed: the equations; the inputs are the variables and then the network's.
        inputs: the number of flattened inputs of the network.
        tree: the structure of the network's output.
        tags: where the tags are among the equations.
        hidden: path and primitive of tags that are inside something that is no mere
            call, a scan for instance.
    """

    closed: ClosedJaxpr
    inputs: int
    tree: Any
    tags: Sequence[int]
    hidden: Collection[tuple[str, str]]

    def path(self, tag: int) -> str:
        """The layer of a tag."""
        return self._equation(tag).params["path"]

    def activation(self, tag: int) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the tagged value."""
        equation = self._equation(tag)
        avals: list[Any] = [variable.aval for variable in equation.outvars]
        return equation.params["tree"].unflatten(
            jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals
        )

    def front(self, tag: int) -> Half:
        """From variables and inputs to the tagged value."""
        jaxpr, position = _alone(self.closed.jaxpr, self.tags[tag])
        equation = jaxpr.eqns[position]
        half = jaxpr.replace(eqns=jaxpr.eqns[:position], outvars=equation.invars)
        return self._half(half, equation.params["tree"])

    def back(self, tag: int) -> Half:
        """From variables, the tagged value and inputs to the output."""
        jaxpr, position = _alone(self.closed.jaxpr, self.tags[tag])
        equation, count = jaxpr.eqns[position], len(jaxpr.invars) - self.inputs
        # What is printed before the cut is the front's.
        before = [e for e in jaxpr.eqns[:position] if e.outvars or not e.effects]
        half = jaxpr.replace(
            eqns=[*before, *jaxpr.eqns[position + 1 :]],
            invars=[*jaxpr.invars[:count], *equation.outvars, *jaxpr.invars[count:]],
        )
        return self._half(half, self.tree)

    def severs(self, tag: int) -> bool:
        """Whether the output depends on the inputs only through the tagged value."""
        return not any(self.back(tag).used[-self.inputs :])

    def _equation(self, tag: int) -> JaxprEqn:
        return self.closed.jaxpr.eqns[self.tags[tag]]

    def _half(self, jaxpr: Jaxpr, tree: Any) -> Half:
        program, used = dce_jaxpr(jaxpr, True)
        return Half(program, self.closed.consts, used, tree)


def trace(network: Callable[[Any, Any], Any], variables: PyTree, x: PyTree) -> Program:
    """Traces a network with tags; calls that hold a tag are put in line.

    Args:
        network: from variables and inputs to outputs.
        variables: arrays, or shapes and dtypes.
        x: arrays, or shapes and dtypes.
    """
    hidden: set[tuple[str, str]] = set()
    trees = []

    def in_line(variables, x):
        closed, output = jax.make_jaxpr(network, return_shape=True)(variables, x)
        trees.append(jax.tree.structure(output))
        leaves = jax.tree.leaves((variables, x))
        return _put_in_line(closed.jaxpr, closed.consts, leaves, hidden)

    closed = jax.make_jaxpr(in_line)(variables, x)
    equations = enumerate(closed.jaxpr.eqns)
    tags = [i for i, equation in equations if equation.primitive is tag_p]
    return Program(closed, len(jax.tree.leaves(x)), trees[-1], tags, hidden)


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


def _alone(jaxpr: Jaxpr, chosen: int) -> tuple[Jaxpr, int]:
    """The program without tags but one, and where that one is."""
    same: dict[Any, Any] = {}

    def source(atom):
        return atom if isinstance(atom, Literal) else same.get(atom, atom)

    equations, position = [], 0
    for number, equation in enumerate(jaxpr.eqns):
        sources = [source(atom) for atom in equation.invars]
        if equation.primitive is tag_p and number != chosen:
            same |= dict(zip(equation.outvars, sources, strict=True))
            continue
        if number == chosen:
            position = len(equations)
        equations.append(equation.replace(invars=sources))
    outputs = [source(atom) for atom in jaxpr.outvars]
    return jaxpr.replace(eqns=equations, outvars=outputs), position


def _called(equation: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]]:
    params = equation.params
    program = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
    if isinstance(program, ClosedJaxpr):
        return program.jaxpr, program.consts
    return program, ()


def _paths_inside(equation: JaxprEqn) -> Iterator[str]:
    for inner in jaxprs_in_params(equation.params):
        for each in inner.eqns:
            if each.primitive is tag_p:
                yield each.params["path"]
            yield from _paths_inside(each)
