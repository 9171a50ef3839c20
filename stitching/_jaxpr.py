"""Traced programs of networks: marked layers, halves, and what depends on what.

The only file here that uses JAX's internals. They are the same in all supported
versions, or the differences stay here.
"""

import contextlib
import dataclasses
import functools
import itertools
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
from jax.interpreters import ad, batching, mlir
from jax.interpreters.partial_eval import dce_jaxpr, dce_rules
from jaxtyping import PyTree

# ---- Marks: "this is the output of that layer".

# The identity on the arrays that a layer returns. Those that nobody cuts at may stay in
# programs that run, inside loops.
mark_p = Primitive("mark")
mark_p.multiple_results = True


def mark(path: str, output: Any) -> Any:
    """The output of a layer with its arrays marked; as it is if it has none.

    The names of types among its leaves that are not arrays go with the mark. Where the
    program is put in line, the mark learns in which iterations of which scans it is
    (`places`), and which of its arrays go on to the next one (`carried`).
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
            places=(),
            carried=(),
        )
    )
    return tree.unflatten(next(marked) if array else leaf for leaf, array in pairs)


def _identity(*leaves, **params):
    return list(leaves)


def _linearise(primals, tangents, **params):
    return mark_p.bind(*primals, **params), list(tangents)


def _batch(leaves, axes, **params):
    # The outer axis first, whatever axis it was mapped over.
    pairs = list(zip(leaves, axes, strict=True))
    (size,) = {leaf.shape[axis] for leaf, axis in pairs if axis is not None}
    leaves = [batching.bdim_at_front(leaf, axis, size) for leaf, axis in pairs]
    return mark_p.bind(*leaves, **params), [0] * len(leaves)


def _without_unused(used, *others):
    equation = others[-1]  # JAX 0.12 passes which inputs are live before it
    invars, outvars = (
        [v for v, kept in zip(each, used, strict=True) if kept]
        for each in (equation.invars, equation.outvars)
    )
    kept = equation.replace(invars=invars, outvars=outvars) if any(used) else None
    return list(used), kept


mark_p.def_impl(_identity)
mark_p.def_abstract_eval(_identity)
mlir.register_lowering(mark_p, mlir.lower_fun(_identity))
ad.primitive_jvps[mark_p] = _linearise
batching.primitive_batchers[mark_p] = _batch
dce_rules[mark_p] = _without_unused


# ---- The program of a network, and its halves.

# Iterations of scans, as for `trace`.
Wanted = Collection[tuple[int, ...]] | str

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


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as one list of equations, marks among them.

    Attributes:
        closed: the equations; the inputs are the variables, then the network's.
        inputs: the number of flattened inputs of the network.
        tree: the structure of the network's output.
        marks: positions among the equations of marks on layers that return arrays only.
        mixed: path and types of layers that return something besides arrays.
        hidden: path and primitive of marks inside something that is more than a call:
            a loop, a branch, or a scan of which no iteration is wanted.
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

    def index(self, number: int) -> tuple[int, ...]:
        """The iterations that a mark is in, of the outer scan first."""
        return tuple(i for _, i in self._equation(number).params["places"])

    def name(self, number: int) -> str:
        """The layer of a mark, with its iterations: `blocks[3]/mlp`."""
        params = self._equation(number).params
        names = params["path"].split("/")
        for depth, group in itertools.groupby(params["places"], lambda place: place[0]):
            names[depth - 1] += f"[{', '.join(str(i) for _, i in group)}]"
        return "/".join(names)

    def find(self, path: str, index: tuple[int, ...]) -> list[int]:
        """The marks of a layer in these iterations, in the order of its calls."""
        marks = range(len(self.marks))
        return [m for m in marks if (self.path(m), self.index(m)) == (path, index)]

    def activation(self, number: int) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the marked value."""
        avals: list[Any] = [v.aval for v in self._equation(number).outvars]
        kept, tree = self._kept(number)
        return tree.unflatten(
            jax.ShapeDtypeStruct(avals[leaf].shape, avals[leaf].dtype) for leaf in kept
        )

    def front(self, *numbers: int) -> Half:
        """From variables and inputs to a tuple of marked values."""
        jaxpr, sources = _unmarked(self.closed.jaxpr)
        found = [(*sources[self.marks[n]], *self._kept(n)) for n in numbers]
        outputs = [atoms[leaf] for _, atoms, kept, _ in found for leaf in kept]
        tree = jax.tree.structure(
            [tree.unflatten([0] * tree.num_leaves) for *_, tree in found]
        )
        last = max(position for position, *_ in found)
        return self._half(jaxpr.replace(eqns=jaxpr.eqns[:last], outvars=outputs), tree)

    def back(self, number: int) -> Half:
        """From variables, the marked value and inputs to the output."""
        mark, (kept, _) = self._equation(number), self._kept(number)
        given = [mark.outvars[leaf] for leaf in kept]
        jaxpr, sources = _unmarked(self.closed.jaxpr, given)
        position, _ = sources[self.marks[number]]
        count = len(jaxpr.invars) - self.inputs
        # What is printed before the cut is printed by the front.
        silent = [
            equation.replace(effects=frozenset()) if equation.effects else equation
            for equation in jaxpr.eqns[:position]
        ]
        half = jaxpr.replace(
            eqns=[*silent, *jaxpr.eqns[position:]],
            invars=[*jaxpr.invars[:count], *given, *jaxpr.invars[count:]],
        )
        return self._half(half, self.tree)

    def is_bottleneck(self, number: int) -> bool:
        """Whether the output depends on the inputs only through the marked value."""
        return not any(self.back(number).used[-self.inputs :])

    def bottlenecks(self) -> list[bool]:
        """`is_bottleneck` of all marks, in one pass over the program.

        A mark is one unless a value on the way from the inputs to the output is made
        before it and used after it, or is an array of the mark that the activation
        leaves out.
        """
        jaxpr, from_inputs = self.closed.jaxpr, self._from_inputs
        count = len(jaxpr.eqns)
        last = {v: count for v in jaxpr.outvars if not isinstance(v, Literal)}
        for position, equation in reversed(list(enumerate(jaxpr.eqns))):
            wanted = [v in last for v in equation.outvars]
            for value in _needed(jaxpr, equation, wanted):
                last.setdefault(value, position)
        made = {v: i for i, e in enumerate(jaxpr.eqns) for v in e.outvars}
        # How many such values there are while each equation runs, as differences.
        open_values = np.zeros(count + 2, int)
        for value in from_inputs.intersection(last):
            open_values[made.get(value, -1) + 1] += 1
            open_values[last[value]] -= 1
        open_values = open_values.cumsum()
        found = []
        for number, position in enumerate(self.marks):
            kept, _ = self._kept(number)
            outvars = enumerate(self._equation(number).outvars)
            beside = (v for leaf, v in outvars if leaf not in kept)
            passed = any(v in last and v in from_inputs for v in beside)
            found.append(not passed and not open_values[position])
        return found

    def _equation(self, number: int) -> JaxprEqn:
        return self.closed.jaxpr.eqns[self.marks[number]]

    def _kept(self, number: int) -> tuple[Sequence[int], Any]:
        """Which leaves of a marked value make up the activation, and their structure.

        All of them, but where a layer returns the carry of a scan, only what it makes
        of the network's inputs. Masks that it passes on and counters are left out.
        """
        params = self._equation(number).params
        kept, tree = params["carried"], params["tree"]
        if not kept:
            return range(tree.num_leaves), tree
        if len(kept) > 1:
            leaves = self._equation(number).outvars
            kept = [i for i in kept if leaves[i] in self._from_inputs] or kept
        if len(kept) == 1:
            return kept, jax.tree.structure(0)
        leaves = [0 if leaf in kept else None for leaf in range(tree.num_leaves)]
        return kept, jax.tree.structure(tree.unflatten(leaves))

    @functools.cached_property
    def _from_inputs(self) -> set[Any]:
        """The values that depend on the network's inputs."""
        jaxpr = self.closed.jaxpr
        found = set(jaxpr.invars[-self.inputs :])
        for equation in jaxpr.eqns:
            for value in equation.outvars:
                wanted = [each is value for each in equation.outvars]
                if found & _needed(jaxpr, equation, wanted):
                    found.add(value)
        return found

    def _half(self, jaxpr: Jaxpr, tree: Any) -> Half:
        program, used = dce_jaxpr(jaxpr, True)
        return Half(program, self.closed.consts, used, tree)


def _needed(jaxpr: Jaxpr, equation: JaxprEqn, wanted: Sequence[bool]) -> set[Any]:
    """The values that these results of an equation need, or its effects."""
    invars = equation.invars
    if equation.primitive is mark_p:
        invars = itertools.compress(invars, wanted)
    elif any(jaxprs_in_params(equation.params)):
        inputs = list({v for v in invars if not isinstance(v, Literal)})
        results = list(itertools.compress(equation.outvars, wanted))
        alone = jaxpr.replace(
            constvars=[], invars=inputs, outvars=results, eqns=[equation]
        )
        invars = itertools.compress(inputs, dce_jaxpr(alone, True)[1])
    elif not any(wanted) and not equation.effects:
        invars = ()
    return {v for v in invars if not isinstance(v, Literal)}


def trace(
    network: Callable[[Any, Any], Any],
    variables: PyTree,
    inputs: PyTree,
    wanted: Wanted = (),
) -> Program:
    """Traces a network with marks; calls that hold a mark are put in line.

    Args:
        network: from variables and inputs to outputs.
        variables: arrays, or shapes and dtypes.
        inputs: arrays, or shapes and dtypes.
        wanted: which iterations of scans that hold marks are put in line, (1, 2) for
            the third of a scan inside the second of another; "layers" for all of
            scans over layers, "all" for the steps of other scans too.
    """
    hidden: set[tuple[str, str]] = set()
    trees = []
    # `disable_jit` would unroll scans.
    scans = any(wanted)
    compiled = jax.disable_jit(False) if scans else contextlib.nullcontext()

    def in_line(variables, inputs):
        with compiled:
            made = jax.make_jaxpr(network, return_shape=True)
            closed, output = made(variables, inputs)
        trees.append(jax.tree.structure(output))
        leaves = jax.tree.leaves((variables, inputs))
        count = len(jax.tree.leaves(inputs))
        made_of = [1] * (len(leaves) - count) + [2] * count
        layers: set[int] = set()
        _find_scans_over_layers(closed.jaxpr, made_of, layers)
        return _InLine(wanted, layers, hidden).run(closed.jaxpr, closed.consts, leaves)

    closed = jax.make_jaxpr(in_line)(variables, inputs)
    marks, mixed = [], {}
    for position, equation in enumerate(closed.jaxpr.eqns):
        if equation.primitive is mark_p and equation.params["others"]:
            mixed[equation.params["path"]] = equation.params["others"]
        elif equation.primitive is mark_p:
            marks.append(position)
    inputs = len(jax.tree.leaves(inputs))
    return Program(closed, inputs, trees[-1], marks, mixed, hidden)


class _InLine(NamedTuple):
    """Evaluates a program, with what holds a mark put in line.

    Attributes:
        wanted: iterations, as for `trace`.
        layers: the identities of equations that are scans over layers.
        hidden: of the `Program`, to be filled.
        places: the iterations that the program is in: how many names of a layer's path
            the scan's layers share, and the iteration.
    """

    wanted: Wanted
    layers: Collection[int]
    hidden: set[tuple[str, str]]
    places: tuple[tuple[int, int], ...] = ()

    def run(
        self,
        jaxpr: Jaxpr,
        constants: Sequence[Any],
        inputs: Sequence[Any],
        carried: Collection[Any] = (),
    ) -> list[Any]:
        """The results; `carried` are variables that are a scan's carry."""
        known = dict(zip(jaxpr.constvars, constants, strict=True))
        known |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom):
            return atom.val if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            name, outvars = equation.primitive.name, equation.outvars
            operands = [read(atom) for atom in equation.invars]
            paths = set(_paths_inside(equation))
            iterations = self._iterations(equation) if paths else ()
            if paths and name in _CALLS:
                inner, constants = _called(equation)
                pairs = zip(inner.outvars, outvars, strict=True)
                passed = [each for each, outer in pairs if outer in carried]
                results = self.run(inner, constants, operands, passed)
            elif iterations:
                names = zip(*(path.split("/") for path in paths), strict=False)
                same = itertools.takewhile(lambda each: len(set(each)) == 1, names)
                depth = max(len(list(same)), 1)
                results = self._scan(equation, operands, iterations, depth)
            else:
                self.hidden.update((path, name) for path in paths)
                params = {}
                if equation.primitive is mark_p:
                    changed = [
                        leaf
                        for leaf, (before, after) in enumerate(
                            zip(equation.invars, outvars, strict=True)
                        )
                        if after in carried and before not in jaxpr.invars
                    ]
                    params = {"places": self.places, "carried": tuple(changed)}
                results = _bound(equation, operands, **params)
            known |= dict(zip(outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _iterations(self, equation: JaxprEqn) -> Sequence[int]:
        """Which iterations of a scan are wanted, in order; none of something else."""
        if equation.primitive.name != "scan":
            return ()
        everything = range(equation.params["length"])
        if isinstance(self.wanted, str):
            listed = self.wanted == "all" or id(equation) in self.layers
            return everything if listed else ()
        here, depth = tuple(i for _, i in self.places), len(self.places)
        deeper = [each for each in self.wanted if len(each) > depth]
        inside = {each[depth] for each in deeper if each[:depth] == here}
        return [i for i in everything if i in inside]

    def _scan(
        self,
        equation: JaxprEqn,
        operands: Sequence[Any],
        iterations: Sequence[int],
        depth: int,
    ) -> list[Any]:
        """A scan as its wanted iterations and scans over those between them."""
        params = equation.params
        body, constants = _called(equation)
        first, count = _scan_sizes(params)
        carry, scanned = operands[first : first + count], operands[first + count :]
        spans, start = [], 0
        for i in (*iterations, params["length"]):
            spans += [(start, i), (i, i + 1)]
            start = i + 1
        spans.pop()
        pieces = {}
        for start, stop in reversed(spans) if params["reverse"] else spans:
            if start == stop:
                continue
            rows = [jax.lax.slice_in_dim(each, start, stop) for each in scanned]
            if start in iterations:
                inner = self._replace(places=(*self.places, (depth, start)))
                row = [jax.lax.squeeze(each, (0,)) for each in rows]
                inputs = [*operands[:first], *carry, *row]
                results = inner.run(body, constants, inputs, body.outvars[:count])
                made = [jnp.expand_dims(each, 0) for each in results[count:]]
            else:
                inputs = [*operands[:first], *carry, *rows]
                results = _bound(equation, inputs, length=stop - start)
                made = results[count:]
            carry, pieces[start] = results[:count], made
        stacks = zip(*(pieces[start] for start in sorted(pieces)), strict=True)
        return [*carry, *(jax.lax.concatenate(parts, 0) for parts in stacks)]


def _find_scans_over_layers(
    jaxpr: Jaxpr, made_of: Sequence[int], found: set[int]
) -> list[int]:
    """Add the scans whose iterations have variables of their own.

    The steps of a recurrent network share theirs and are not layers.

    Args:
        jaxpr: a program.
        made_of: for each of its inputs 2 if it depends on the network's inputs, 1 if
            on its variables alone, 0 if on neither.
        found: the identities of equations, to be filled.

    Returns:
        For each result what `made_of` says of inputs.
    """
    known = dict(zip(jaxpr.invars, made_of, strict=True))

    def read(atom):
        return 0 if isinstance(atom, Literal) else known.get(atom, 0)

    for equation in jaxpr.eqns:
        name, operands = equation.primitive.name, [read(v) for v in equation.invars]
        highest = max(operands, default=0)
        results = [highest] * len(equation.outvars)
        if name == "scan":
            first, count = _scan_sizes(equation.params)
            scanned = operands[first + count :]
            if 1 in scanned:
                found.add(id(equation))
            inside = [*operands[:first], *[highest] * count, *scanned]
            _find_scans_over_layers(_called(equation)[0], inside, found)
        elif name in _CALLS:
            inner, _ = _called(equation)
            results = _find_scans_over_layers(inner, operands, found)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _bound(equation: JaxprEqn, operands: Sequence[Any], **changed: Any) -> list[Any]:
    """The results of an equation, some of its parameters changed."""
    params = equation.primitive.get_bind_params({**equation.params, **changed})
    with equation.ctx.manager:
        results = equation.primitive.bind(*operands, **params)
    return results if equation.primitive.multiple_results else [results]


def _scan_sizes(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are the carry."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    constants, carry, _ = params["ft_in"].unpack()  # JAX 0.12
    return len(constants), len(carry)


def _unmarked(
    jaxpr: Jaxpr, given: Collection[Any] = ()
) -> tuple[Jaxpr, dict[int, tuple[int, list[Any]]]]:
    """The program without marks, and where and on what they were.

    Args:
        jaxpr: the program.
        given: results of marks that get their values from elsewhere.
    """
    same: dict[Any, Any] = {}

    def source(atom):
        return atom if isinstance(atom, Literal) else same.get(atom, atom)

    equations, found = [], {}
    for number, equation in enumerate(jaxpr.eqns):
        sources = [source(atom) for atom in equation.invars]
        if equation.primitive is mark_p:
            found[number] = len(equations), sources
            pairs = zip(equation.outvars, sources, strict=True)
            same |= {new: old for new, old in pairs if new not in given}
        elif sources == equation.invars:
            equations.append(equation)
        else:
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
