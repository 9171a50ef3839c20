"""JAX's internals: traced programs, their parts, and what holds other programs.

What differs between the versions of JAX that are supported is dealt with here, and no
other file of the package imports these internals.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal, get_opaque_trace_state, jaxpr_as_fun
from jax.extend.random import threefry_2x32
from jax.interpreters import partial_eval
from jaxtyping import PyTree

__all__ = [
    "CALLS",
    "Literal",
    "Parts",
    "Program",
    "Scan",
    "While",
    "all_constants",
    "called",
    "captured",
    "evaluate",
    "input_types",
    "intermediate_bytes",
    "parts",
    "read_scan",
    "read_while",
    "returns_an_input",
    "threefry_2x32",
    "trace",
    "trace_state",
    "without_dead_code",
]

Program = ClosedJaxpr

# Primitives that run the program they hold once, on their own operands.
CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "call",
    "composite",
    "compute_on",
    "eval_jaxpr",
    "checkpoint",
    "remat",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "custom_vmap_call",
)


class Parts(NamedTuple):
    """A program in parts.

    Attributes:
        constants: the variables that hold captured arrays, with the arrays.
        inputs: the variables of its inputs.
        equations: its operations, in order.
        outputs: variables or literals.
    """

    constants: dict[Any, Any]
    inputs: list[Any]
    equations: list[Any]
    outputs: list[Any]


class Scan(NamedTuple):
    """A scan: its operands (or their labels, or flags) sorted by what they are."""

    body: Program
    constants: list[Any]
    carry: list[Any]
    scanned: list[Any]
    length: int
    reverse: bool


class While(NamedTuple):
    """A while loop: its operands (or labels, or flags) sorted by what they are."""

    condition: Program
    condition_constants: list[Any]
    body: Program
    body_constants: list[Any]
    carry: list[Any]


def trace(function: Callable[..., Any], *arguments: Any) -> tuple[Program, PyTree]:
    """A function as a program, and the shapes and dtypes of what it returns."""
    return jax.make_jaxpr(function, return_shape=True)(*arguments)


def parts(program: Any) -> Parts:
    """A program in parts; some primitives hold programs without constants."""
    jaxpr = getattr(program, "jaxpr", program)
    constants = zip(jaxpr.constvars, getattr(program, "consts", ()), strict=True)
    return Parts(
        dict(constants), list(jaxpr.invars), list(jaxpr.eqns), list(jaxpr.outvars)
    )


def input_types(program: Program) -> list[Any]:
    """Shape and dtype of each input of a program."""
    return [variable.aval for variable in program.jaxpr.invars]


def captured(program: Program) -> list[Any]:
    """The arrays that a traced function closed over."""
    return list(program.consts)


def evaluate(program: Program, constants: Sequence[Any], *inputs: Any) -> list[Any]:
    """The outputs of a program, with other arrays in place of the captured ones."""
    return jaxpr_as_fun(ClosedJaxpr(program.jaxpr, constants))(*inputs)


def all_constants(program: Program) -> Iterator[Any]:
    """The arrays captured by a program and by those that it holds."""
    yield from program.consts
    for equation in program.jaxpr.eqns:
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, ClosedJaxpr):
                yield from all_constants(value)


def intermediate_bytes(program: Any) -> int:
    """Bytes of all values that a program computes, with a loop's body counted once."""
    total = 0
    for equation in parts(program).equations:
        values = [variable.aval for variable in equation.outvars]
        total += sum(math.prod(value.shape) * value.dtype.itemsize for value in values)
        for held in jax.tree.leaves(equation.params):
            if hasattr(held, "eqns"):
                total += intermediate_bytes(held)
    return total


def without_dead_code(program: Program) -> Program:
    """A program without the operations that its outputs do not depend on."""
    jaxpr, constants = program.jaxpr, program.consts
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    opened = jaxpr.replace(constvars=(), invars=inputs)
    live, _ = partial_eval.dce_jaxpr(opened, [True] * len(jaxpr.outvars))
    return ClosedJaxpr(jaxpr.replace(eqns=live.eqns), constants)


def returns_an_input(program: Program) -> bool:
    """Whether one of the outputs of a program is one of its inputs as it came."""
    return any(output in program.jaxpr.invars for output in program.jaxpr.outvars)


def called(equation: Any) -> Program:
    """The program that a primitive of `CALLS` runs."""
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
    return next(equation.params[n] for n in names if n in equation.params)


def read_scan(equation: Any, operands: Sequence[Any]) -> Scan:
    """What a `scan` does with its operands."""
    params = equation.params
    if "num_carry" in params:
        first = params["num_consts"]
        second = first + params["num_carry"]
    else:  # JAX 0.12: trees of (constants, carry, scanned)
        constants, carry, _ = params["ft_in"].unpack()
        first, second = len(constants), len(constants) + len(carry)
    return Scan(
        params["jaxpr"],
        list(operands[:first]),
        list(operands[first:second]),
        list(operands[second:]),
        params["length"],
        params["reverse"],
    )


def read_while(equation: Any, operands: Sequence[Any]) -> While:
    """What a `while` does with its operands."""
    params = equation.params
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    return While(
        params["cond_jaxpr"],
        list(operands[:first]),
        params["body_jaxpr"],
        list(operands[first:second]),
        list(operands[second:]),
    )


def trace_state() -> Any:
    """Equal inside the same transformation (`jit`, `vmap`, …), else different."""
    return get_opaque_trace_state(convention="flax")
