"""Whether a traced program passes a value on or computes a new one."""

from typing import Any

from jax.extend.core import Jaxpr, Literal, jaxprs_in_params

# What mapping over another axis than the first does to a value that is only passed on.
_MOVES = frozenset({"transpose", "reshape", "squeeze", "broadcast_in_dim", "copy"})


def computed(jaxpr: Jaxpr, atom: Any) -> bool:
    """Whether a value of a program is anything but one of its inputs."""
    return _source(jaxpr, atom) is None


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


def _passed_on(equation: Any, output: int) -> Any:
    """The operand that an equation gives as one of its outputs, or `None`."""
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
