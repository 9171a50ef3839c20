"""Evaluates a traced program: in float64 throughout, or with a look inside."""

from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from combinability._jaxpr import (
    CALLS,
    Literal,
    Program,
    called,
    parts,
    read_scan,
    read_while,
)

Path = tuple[int, ...]
_WIDE = {"f": jnp.float64, "c": jnp.complex128}


class Interpreter:
    """Evaluates programs equation by equation; may be traced.

    Args:
        raised: whether to compute in float64 whatever the program says. Needs 64-bit
            types to be enabled.
        watched: paths of operands to keep, as `Carrier.path`.
    """

    def __init__(self, raised: bool = False, watched: Collection[Path] = ()):
        self._raised = raised
        self._watched = frozenset(watched)

    def run(
        self, program: Program, inputs: Sequence[Any], path: Path = ()
    ) -> tuple[list[Array], dict[Path, Array]]:
        """Evaluates a program.

        Args:
            program: the traced program.
            inputs: its flattened inputs.
            path: of the program within a larger one.

        Returns:
            Its results; what was watched, inside scans stacked along a leading axis.
        """
        constants, variables, equations, outputs = parts(program)
        known = {var: self._raise(value) for var, value in constants.items()}
        known |= dict(zip(variables, map(self._raise, inputs), strict=True))
        seen: dict[Path, Array] = {}

        def read(atom):
            if isinstance(atom, Literal):
                return self._raise(jnp.asarray(atom.val, _dtype(atom)))
            return known[atom]

        for number, equation in enumerate(equations):
            here = (*path, number)
            operands = [read(atom) for atom in equation.invars]
            for i, operand in enumerate(operands):
                if (*here, i) in self._watched:
                    seen[(*here, i)] = operand
            results, inner = self._equation(equation, operands, here)
            seen |= inner
            known |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in outputs], seen

    def _raise(self, value: Any) -> Any:
        dtype = getattr(value, "dtype", None)
        if not self._raised or dtype is None:
            return value
        if jnp.issubdtype(dtype, jnp.inexact):
            return jnp.asarray(value, _WIDE["c" if dtype.kind == "c" else "f"])
        return value

    def _equation(self, equation: Any, operands: list[Any], path: Path):
        name = equation.primitive.name
        if name in CALLS:
            return self.run(called(equation), operands, path)
        special = {"scan": self._scan, "while": self._while, "cond": self._cond}
        if name in special:
            return special[name](equation, operands, path)
        params = {key: self._wide(value) for key, value in equation.params.items()}
        if self._raised and "precision" in params:
            # What the program says may be meant for narrow types.
            params["precision"] = (jax.lax.Precision.HIGHEST,) * 2
        results = equation.primitive.bind(*operands, **params)
        return (results if equation.primitive.multiple_results else [results]), {}

    def _wide(self, param: Any) -> Any:
        try:
            dtype = jnp.dtype(param) if self._raised and param is not None else None
        except TypeError:
            return param
        if dtype is None or isinstance(param, str | int | tuple):
            return param
        if not jnp.issubdtype(dtype, jnp.inexact):
            return param
        return jnp.dtype(_WIDE["c" if dtype.kind == "c" else "f"])

    def _scan(self, equation: Any, operands: list[Any], path: Path):
        scan = read_scan(equation, operands)

        def body(carry, slices):
            results, seen = self.run(
                scan.body, [*scan.constants, *carry, *slices], path
            )
            count = len(carry)
            return results[:count], (results[count:], seen)

        carry, (stacked, seen) = jax.lax.scan(
            body,
            scan.carry,
            scan.scanned,
            length=scan.length,
            reverse=scan.reverse,
        )
        return [*carry, *stacked], seen

    def _while(self, equation: Any, operands: list[Any], path: Path):
        loop = read_while(equation, operands)

        def goes_on(carry):
            inputs = [*loop.condition_constants, *carry]
            return self.run(loop.condition, inputs)[0][0]

        def body(carry):
            return self.run(loop.body, [*loop.body_constants, *carry])[0]

        return jax.lax.while_loop(goes_on, body, loop.carry), {}

    def _cond(self, equation: Any, operands: list[Any], path: Path):
        branches = [
            lambda *inputs, branch=branch: self.run(branch, inputs)[0]
            for branch in equation.params["branches"]
        ]
        index, *inputs = operands
        return jax.lax.switch(jnp.asarray(index, jnp.int32), branches, *inputs), {}


def _dtype(literal: Any) -> Any:
    return literal.aval.dtype
