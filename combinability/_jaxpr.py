"""JAX's internals: traced programs, their parts, and what holds other programs.

What differs between the versions of JAX that are supported is dealt with here, and no
other file of the package imports these internals.

`Evaluation` runs a program operation by operation, to look at values inside it, or to
compute in float64 what was written for narrower types. Only operations that are known
to mean the same in float64 are raised to it; others, such as random numbers made of
bits, callbacks and primitives of the user's, run in the types that the program says,
and what they return is raised afterwards.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, get_opaque_trace_state, jaxpr_as_fun
from jax.extend.core import Literal as Literal
from jax.extend.random import threefry_2x32 as threefry_2x32
from jax.interpreters import partial_eval
from jaxtyping import Array, PyTree

Program = ClosedJaxpr

# Primitives that run a program which they hold, once.
CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "call",
    "call_hi_primitive",
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
    "custom_linear_solve",
)

_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh
    digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2
    logistic lt lt_to max min mul mulhi name ne neg nextafter not one_minus_square or
    polygamma polynomial population_count pow random_gamma_grad real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor zeta
"""
# Primitives that compute every entry of their result from one entry of each operand.
ELEMENTWISE = tuple(_ELEMENTWISE.split())

_OTHERS = """
    argmax argmin broadcast_in_dim cholesky concatenate conv_general_dilated
    cumlogsumexp cummax cummin cumprod cumsum dot_general dynamic_slice
    dynamic_update_slice eigh fft gather householder_product iota lu
    optimization_barrier pad qr ragged_dot_general reduce_and reduce_max reduce_min
    reduce_or reduce_prod reduce_sum reduce_window_max reduce_window_min
    reduce_window_sum reduce_xor reshape rev slice sort split squeeze stack svd tile
    top_k transpose triangular_solve tridiagonal_solve unstack
"""
# Primitives that mean the same in float64.
_ANY_WIDTH = {*ELEMENTWISE, *_OTHERS.split()} - {"nextafter", "reduce_precision"}
_SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": jax.lax.scatter,
    "scatter-add": jax.lax.scatter_add,
    "scatter-sub": jax.lax.scatter_sub,
    "scatter-mul": jax.lax.scatter_mul,
    "scatter-min": jax.lax.scatter_min,
    "scatter-max": jax.lax.scatter_max,
}
_OBSERVERS = ("debug_callback", "debug_print", "io_callback")

Path = tuple[int, ...]


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


def output_types(program: Program) -> list[Any]:
    """Shape and dtype of each output of a program."""
    return [atom.aval for atom in program.jaxpr.outvars]


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


def all_equations(program: Any) -> Iterator[Any]:
    """The operations of a program and of those that it holds."""
    for equation in parts(program).equations:
        yield equation
        for value in jax.tree.leaves(equation.params):
            if hasattr(value, "eqns"):
                yield from all_equations(value)


def intermediate_bytes(program: Program) -> int:
    """Bytes of all values that a program computes, with a loop's body counted once."""
    values = [v.aval for equation in all_equations(program) for v in equation.outvars]
    return sum(math.prod(value.shape) * value.dtype.itemsize for value in values)


def convolves_channels_last(program: Program) -> bool:
    """Whether all convolutions of a program have NHWC inputs and HWIO kernels."""
    for equation in all_equations(program):
        if equation.primitive.name == "conv_general_dilated":
            inputs, kernel, outputs = equation.params["dimension_numbers"]
            last = len(inputs) - 1
            space = tuple(range(last - 1))
            channels_last = (0, last, *(i + 1 for i in space))
            if (inputs, outputs) != (channels_last, channels_last):
                return False
            if kernel != (last, last - 1, *space):
                return False
    return True


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


def called(equation: Any, operands: Sequence[Any]) -> tuple[Program, list[Any]]:
    """The program that a primitive of `CALLS` runs, and on which of its operands."""
    params = equation.params
    if "jaxprs" in params:  # a linear system: its result is that of `solve`
        lengths = params["const_lengths"]
        start = sum(lengths[: lengths._fields.index("solve")])
        stop = start + lengths.solve
        chosen = [*operands[start:stop], *operands[sum(lengths) :]]
        return params["jaxprs"].solve, chosen
    if "_prim" in params:  # JAX 0.12: `frexp`, `searchsorted`, made of other primitives
        types = [_type(atom) for atom in (*equation.invars, *equation.outvars)]
        wide = any(each.dtype.name in _64_BITS for each in types)
        with jax.enable_x64(wide):
            inner = functools.partial(equation.primitive.to_lojax, **params)
            return trace(inner, *types[: len(operands)])[0], list(operands)
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
    return next(params[name] for name in names if name in params), list(operands)


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


def random_keys(like: Any, seed: int) -> Array:
    """Random keys of the shape and dtype of others."""
    count = math.prod(like.shape)
    base = jax.random.key(seed, impl=like.dtype._impl)
    return jax.random.split(base, count).reshape(like.shape)


def trace_state() -> Any:
    """Equal inside the same transformation (`jit`, `vmap`, …), else different."""
    return get_opaque_trace_state(convention="flax")


class Evaluation:
    """Evaluates programs operation by operation; may be traced.

    Operations that only look at values (`jax.debug.print`) are left out.

    Args:
        wide: whether to compute in float64. Needs 64-bit types to be enabled.
        watched: paths of operands to keep: the numbers of the equations that lead to
            one, and of the operand.

    Attributes:
        rounding: the unit of rounding of the narrowest type that something had to be
            computed in.
    """

    def __init__(self, wide: bool = False, watched: Collection[Path] = ()):
        self._wide = wide
        self._watched = frozenset(watched)
        self.rounding = 0.0

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

    def _equation(self, equation: Any, operands: list[Any], path: Path):
        name = equation.primitive.name
        if name in CALLS:
            return self.run(*called(equation, operands), path)
        special = {"scan": self._scan, "while": self._while, "cond": self._cond}
        if name in special:
            return special[name](equation, operands, path)
        if name in _OBSERVERS and not equation.outvars:
            return [], {}
        results = self._compute(equation, operands)
        return (results if equation.primitive.multiple_results else [results]), {}

    def _compute(self, equation: Any, operands: list[Any]) -> Any:
        name, params = equation.primitive.name, equation.params
        if not self._wide:
            return self._bind(equation, operands, params)
        if name == "reduce_precision":
            return operands[0]
        if name in _SCATTERS and not (name == "scatter" and params["update_jaxpr"]):
            kept = ("indices_are_sorted", "unique_indices", "mode")
            options = {key: params[key] for key in kept}
            return _SCATTERS[name](*operands, params["dimension_numbers"], **options)
        if name in _ANY_WIDTH:
            params = {key: _widened(value) for key, value in params.items()}
            if "precision" in params:
                # What the program says may be meant for narrow types.
                params["precision"] = (jax.lax.Precision.HIGHEST,) * 2
            return self._bind(equation, operands, params)
        if name == "io_callback":
            raise ValueError(
                "it calls io_callback, which may do more than return values"
            )
        narrow = [
            self._lower(value, var.aval)
            for value, var in zip(operands, equation.invars, strict=True)
        ]
        return jax.tree.map(self._raise, self._bind(equation, narrow, params))

    def _bind(self, equation: Any, operands: list[Any], params: dict[str, Any]) -> Any:
        return equation.primitive.bind(
            *operands, **equation.primitive.get_bind_params(params)
        )

    def _raise(self, value: Any) -> Any:
        dtype = getattr(value, "dtype", None)
        if not self._wide or dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            return value
        return jnp.asarray(value, _widened(dtype))

    def _lower(self, value: Any, aval: Any) -> Any:
        if not jnp.issubdtype(value.dtype, jnp.inexact) or value.dtype == aval.dtype:
            return value
        self.rounding = max(self.rounding, float(jnp.finfo(aval.dtype).eps))
        return value.astype(aval.dtype)

    def _scan(self, equation: Any, operands: list[Any], path: Path):
        scan = read_scan(equation, operands)

        def body(carry, slices):
            results, seen = self.run(
                scan.body, [*scan.constants, *carry, *slices], path
            )
            count = len(carry)
            return results[:count], (results[count:], seen)

        carry, (stacked, seen) = jax.lax.scan(
            body, scan.carry, scan.scanned, length=scan.length, reverse=scan.reverse
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


_64_BITS = ("float64", "int64", "uint64", "complex128")


def _type(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
        atom.aval.shape, atom.aval.dtype, weak_type=atom.aval.weak_type
    )


def _dtype(atom: Any) -> Any:
    return atom.aval.dtype


def _widened(param: Any) -> Any:
    """A floating or complex dtype as the one of 64 bits; anything else as it is."""
    if param is None or isinstance(param, str | int | tuple):
        return param
    try:
        dtype = jnp.dtype(param)
    except TypeError:
        return param
    if not jnp.issubdtype(dtype, jnp.inexact):
        return param
    complex_ = jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.dtype(jnp.complex128 if complex_ else jnp.float64)
