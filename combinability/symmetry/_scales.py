"""Which signs and positive scales of units leave a network's function unchanged.

If a unit's values are multiplied by s, what a layer takes of them is divided by s. Each
axis of a value that carries a group has an unknown exponent e: entries of unit u are
multiplied by s_u^e. Operations give linear equations for the exponents: what is added
has equal ones, products add theirs, and those of contracted axes sum to 0. A positively
homogeneous function (ReLU) lets scales pass, an odd one (tanh) signs; any other
operation sets exponents to 0. The solutions are the symmetries: for scales over the
rationals, for signs modulo 2.

The labels are those of the permutations, so this finds nothing for units that are
pinned, nor scales of what other units lie within (heads, experts).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from combinability._jaxpr import CALLS, Literal, called, parts, read_scan
from combinability.symmetry import _label
from combinability.symmetry._label import Label
from combinability.symmetry._symmetry import is_key

Term = dict[int, Fraction]  # unknown -> coefficient

_PASS = {"neg", "real", "imag", "conj", "copy", "copy_p", "convert_element_type"}
_PASS |= {"reduce_precision", "stop_gradient", "name", "optimization_barrier"}
_ODD = {"tanh", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh", "erf", "sign"}
_ODD |= {"erf_inv"}
_EQUAL = {"add", "add_any", "sub"}
_LARGEST = {"max", "min", "reduce_max", "reduce_min", "reduce_window_max"}
_COMPARED = {"gt", "ge", "lt", "le", "eq", "ne"}
_ROOTS = {"sqrt": Fraction(1, 2), "cbrt": Fraction(1, 3), "rsqrt": Fraction(-1, 2)}


class Value(NamedTuple):
    """For each axis the terms of the groups that it carries; whether it is all 0.

    Infinities count as 0 for scales: multiplying them changes nothing.
    """

    terms: list[list[Term]]
    zero: bool = False


class Scales:
    """Walks through a labelled program and collects equations.

    Args:
        labels: path of an equation -> labels of its operands and of its results.
        units: the groups on an axis: label, first entry, distance of units.
        signs: whether signs are looked for, or scales.
    """

    def __init__(
        self,
        labels: Mapping[tuple[int, ...], Any],
        units: Callable[[Label], list[tuple[Label, int, int]]],
        signs: bool,
    ):
        self._labels, self._units, self._signs = labels, units, signs
        self._count = 0
        self._solved: dict[int, Term] = {}

    def unknowns(self, labels: Sequence[Label]) -> Value:
        """A value of unknown exponents."""
        terms = []
        for label in labels:
            count = len(self._units(label))
            terms.append([{self._count + i: Fraction(1)} for i in range(count)])
            self._count += count
        return Value(terms)

    def reduce(self, term: Term) -> Term:
        """A term in unknowns that no equation determines."""
        while solved := term.keys() & self._solved.keys():
            unknown = max(solved)
            rest = {u: c for u, c in term.items() if u != unknown}
            term = self._sum(rest, self._solved[unknown], term[unknown])
        return term

    def run(self, program: Any, inputs: Sequence[Value], path=()) -> list[Value]:
        """The values of a program's results."""
        constants, variables, equations, outputs = parts(program)
        known = {var: self._constant(array) for var, array in constants.items()}
        known |= dict(zip(variables, inputs, strict=True))

        def read(atom):
            return (
                self._constant(atom.val) if isinstance(atom, Literal) else known[atom]
            )

        for number, equation in enumerate(equations):
            operands = [read(atom) for atom in equation.invars]
            results = self._equation(equation, operands, (*path, number))
            known |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in outputs]

    def fix(self, value: Value) -> None:
        """Set all exponents of a value to 0."""
        for term in (term for terms in value.terms for term in terms):
            self._equate(term, {})

    def _constant(self, array: Any) -> Value:
        terms: list[list[Term]] = [[] for _ in np.shape(array)]
        if hasattr(array, "dtype") and is_key(array):
            return Value(terms)
        values = np.asarray(array)
        if self._signs or values.dtype.kind != "f":
            return Value(terms, not np.any(values))
        return Value(terms, not np.any(np.isfinite(values) & (values != 0)))

    def _sum(self, x: Term, y: Term, factor: Fraction | int = 1) -> Term:
        total = {u: x.get(u, 0) + factor * y.get(u, 0) for u in {*x, *y}}
        if self._signs:
            total = {u: c % 2 for u, c in total.items()}
        return {u: Fraction(c) for u, c in total.items() if c}

    def _equate(self, x: Term, y: Term) -> None:
        term = self.reduce(self._sum(x, y, -1))
        if term:
            pivot = max(term)
            factor = term.pop(pivot)
            self._solved[pivot] = self._sum({}, term, -1 / factor)

    def _equation(self, equation: Any, operands: list[Value], path) -> list[Value]:
        name = equation.primitive.name
        if name in CALLS:
            return self.run(*called(equation, operands), path)
        if name == "scan":
            return self._scan(equation, operands, path)
        if not equation.outvars:  # what only looks at values, as a print does
            return []
        given, results = self._labels[path]
        if name == "optimization_barrier":
            return operands
        found = self._rule(name, equation.params, operands, given, results)
        if found is None:
            for value in operands:
                self.fix(value)
            found = [self._zeros(labels) for labels in results]
        return found

    def _scan(self, equation: Any, operands: list[Value], path) -> list[Value]:
        """A carry has exponents that every iteration keeps."""
        scan = read_scan(equation, operands)
        results = self._labels[path][1]
        carry = [self.unknowns(labels) for labels in results[: len(scan.carry)]]
        slices = [Value(value.terms[1:], value.zero) for value in scan.scanned]
        found = self.run(scan.body, [*scan.constants, *carry, *slices], path)
        for first, inside in ((scan.carry, carry), (found, carry)):
            for x, y, labels in zip(first, inside, results, strict=False):
                self._equal([x, y], [labels, labels], labels)
        stacked = [Value([[], *x.terms], x.zero) for x in found[len(carry) :]]
        return [*carry, *stacked]

    def _groups(self, label: Label) -> list[Label]:
        return [group for group, *_ in self._units(label)]

    def _zeros(self, labels: Sequence[Label]) -> Value:
        return Value([[{} for _ in self._units(label)] for label in labels])

    def _aligned(self, value: Value, given, result) -> list[list[Term]]:
        """The terms of an operand for the groups of the result, axis by axis."""
        aligned = []
        for terms, label, wanted in zip(value.terms, given, result, strict=True):
            groups = self._groups(wanted)
            if terms and self._groups(label) != groups:
                self.fix(Value([terms]))
                terms = []
            aligned.append(terms or [{} for _ in groups])
        return aligned

    def _equal(self, operands: Sequence[Value], given, result) -> Value:
        """Operands of which none is 0 have equal exponents."""
        full = [(x, of) for x, of in zip(operands, given, strict=True) if not x.zero]
        aligned = [
            self._aligned(x, of, result) for x, of in full if len(of) == len(result)
        ]
        first = aligned[0] if aligned else self._zeros(result).terms
        for other in aligned[1:]:
            for x, y in zip(chain(*first), chain(*other), strict=True):
                self._equate(x, y)
        if len(aligned) < len(full):  # a number
            self.fix(Value(first))
        return Value(first, not full)

    def _product(self, operands: Sequence[Value], given, result, powers) -> Value:
        total = self._zeros(result).terms
        for value, of, power in zip(operands, given, powers, strict=True):
            if of:
                terms = self._aligned(value, of, result)
                total = [
                    [self._sum(x, y, power) for x, y in zip(*pair, strict=True)]
                    for pair in zip(total, terms, strict=True)
                ]
        return Value(total, any(x.zero for x in operands))

    def _rule(
        self, name: str, params: Mapping, x: list[Value], given, results
    ) -> list[Value] | None:
        """The results' values, or `None` where all exponents have to be 0."""
        result = results[0] if results else []
        kept = Value([], bool(x) and x[0].zero)
        match name:
            case "transpose":
                return [
                    kept._replace(terms=[x[0].terms[i] for i in params["permutation"]])
                ]
            case "broadcast_in_dim":
                out = self._zeros(result).terms
                for axis, terms in zip(
                    params["broadcast_dimensions"], x[0].terms, strict=True
                ):
                    out[axis] = terms or out[axis]
                return [kept._replace(terms=out)]
            case "squeeze" | "reshape":
                return self._reshaped(x[0], given[0], result)
            case "reduce_sum" | "reduce_max" | "reduce_min":
                return self._reduced(name, params["axes"], x[0])
            case "reduce_window_sum" | "reduce_window_max" | "cumsum":
                if name in _LARGEST and self._signs:
                    return None
                return [Value(self._aligned(x[0], given[0], result), x[0].zero)]
            case "slice" | "split":
                return self._cut(name, params, x[0], given[0], results)
            case "concatenate":
                return self._joined(params["dimension"], x, given, result)
            case "pad" if x[1].zero:
                return [Value(self._aligned(x[0], given[0], result), x[0].zero)]
            case "dot_general":
                return self._dot(params["dimension_numbers"], x)
            case "conv_general_dilated":
                if params["batch_group_count"] > 1:
                    return None
                return self._convolution(params["dimension_numbers"], x, given, result)
            case "gather":
                return self._looked_up(params, x, given, result)
        value = self._entry_by_entry(name, params, x, given, result)
        return None if value is None else [value]

    def _entry_by_entry(
        self, name: str, params: Mapping, x: list[Value], given, result
    ) -> Value | None:
        """The value of a result whose entries are each computed from one of x."""
        match name:
            case "convert_element_type" if params["new_dtype"].kind in "biu":
                return None
            case _ if name in _PASS or (name in _ODD and self._signs):
                return x[0]
            case "abs" if not self._signs:
                return x[0]
            case "abs" | "square" | "cos" | "cosh" if self._signs:
                return self._zeros(result)  # even
            case "sign" | "is_finite":
                return self._zeros(result)
            case _ if name in _EQUAL or (name in ("max", "min") and not self._signs):
                return self._equal(x, given, result)
            case "select_n":
                self.fix(x[0])
                return self._equal(x[1:], given[1:], result)
            case _ if name in _COMPARED and not self._signs:
                self._equal(x, given, result)
                return self._zeros(result)
            case "mul":
                return self._product(x, given, result, (1, 1))
            case "div":
                return self._product(x, given, result, (1, -1))
            case "square" | "integer_pow":
                power = params.get("y", 2)
                return self._product(x, given, result, (power,))
            case "cbrt" if self._signs:
                return x[0]
            case _ if name in _ROOTS and not self._signs:
                return self._product(x, given, result, (_ROOTS[name],))
        return None

    def _reshaped(self, value: Value, given, result) -> list[Value] | None:
        counts = [self._groups(label) for label in result]
        terms, after = list(chain(*value.terms)), list(chain(*counts))
        if terms and after != list(chain(*map(self._groups, given))):
            return None
        if len(terms) not in (0, len(after)):
            return None
        left = iter(terms or [{} for _ in after])
        return [Value([[next(left) for _ in axis] for axis in counts], value.zero)]

    def _reduced(self, name: str, axes, value: Value) -> list[Value] | None:
        if name in _LARGEST and self._signs:
            return None
        self.fix(Value([value.terms[axis] for axis in axes]))
        kept = [terms for i, terms in enumerate(value.terms) if i not in axes]
        return [Value(kept, value.zero)]

    def _cut(self, name: str, params, value: Value, given, results):
        """Parts of a value: of each axis the groups that start inside of the part."""
        found, offset = [], 0
        for labels in results:
            starts = params["start_indices"] if name == "slice" else [0] * len(labels)
            starts = list(starts)
            if name == "split":
                starts[params["axis"]] = offset
                offset += labels[params["axis"]].size
            terms = []
            for axis, (start, label) in enumerate(zip(starts, labels, strict=True)):
                inside = [
                    (group, term)
                    for (group, first, _), term in zip(
                        self._units(given[axis]), value.terms[axis], strict=False
                    )
                    if start <= first < start + label.size
                ]
                if value.terms[axis] and [g for g, _ in inside] != self._groups(label):
                    return None
                terms.append([term for _, term in inside])
            found.append(Value(terms, value.zero))
        return found

    def _joined(self, axis: int, x: Sequence[Value], given, result):
        """Values one after another along an axis; along others they are equal."""
        joined = [term for value in x for term in value.terms[axis]]
        if len(joined) != len(self._groups(result[axis])):
            return None
        others = [Value([*v.terms[:axis], [], *v.terms[axis + 1 :]], v.zero) for v in x]
        here = [_label.uniform(1)]
        around = [[*of[:axis], *here, *of[axis + 1 :]] for of in given]
        out = self._equal(others, around, [*result[:axis], *here, *result[axis + 1 :]])
        out.terms[axis] = joined
        return [Value(out.terms, all(value.zero for value in x))]

    def _dot(self, numbers, x: Sequence[Value]) -> list[Value] | None:
        (over_x, over_y), (batch_x, batch_y) = numbers
        first, second = (value.terms for value in x)
        for i, j in zip(over_x, over_y, strict=True):
            if not self._meet(first[i], second[j]):
                return None
        batch = []
        for i, j in zip(batch_x, batch_y, strict=True):
            if len(first[i]) != len(second[j]) and first[i] and second[j]:
                return None
            pairs = zip(first[i] or second[j], second[j] or first[i], strict=True)
            both = bool(first[i] and second[j])
            batch.append([self._sum(a, b) if both else a for a, b in pairs])
        free = [
            terms
            for value, gone in (
                (first, {*over_x, *batch_x}),
                (second, {*over_y, *batch_y}),
            )
            for i, terms in enumerate(value)
            if i not in gone
        ]
        return [Value([*batch, *free], any(value.zero for value in x))]

    def _meet(self, x: Sequence[Term], y: Sequence[Term]) -> bool:
        """Units that are summed over have exponents that cancel."""
        if x and y and len(x) != len(y):
            return False
        for a, b in zip(x or [{}] * len(y), y or [{}] * len(x), strict=True):
            self._equate(self._sum(a, b), {})
        return True

    def _convolution(self, numbers, x, given, result) -> list[Value] | None:
        """The kernel's inputs are the last of the groups that the features carry."""
        inputs, kernel, outputs = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
        features, taken = x[0].terms[inputs[1]], x[1].terms[kernel[1]]
        if any(x[0].terms[axis] for axis in inputs[2:]):
            return None
        produced = list(x[1].terms[kernel[0]])
        count = len(features) - len(self._units(given[1][kernel[1]]))
        if (features and count < 0) or not self._meet(features[max(count, 0) :], taken):
            return None
        for i in range(max(count, 0)):  # groups of features, one kernel for each
            if i >= len(produced):
                return None
            produced[i] = self._sum(produced[i], features[i])
        out = self._zeros(result).terms
        out[outputs[0]] = x[0].terms[inputs[0]] or out[outputs[0]]
        if len(out[outputs[1]]) != len(produced):
            return None
        out[outputs[1]] = produced
        return [Value(out, any(value.zero for value in x))]

    def _looked_up(self, params, x, given, result) -> list[Value] | None:
        numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
        if numbers.operand_batching_dims:
            return None
        self.fix(x[1])
        out, offsets = self._zeros(result).terms, iter(numbers.offset_dims)
        for axis, (terms, label) in enumerate(zip(x[0].terms, given[0], strict=True)):
            whole = sizes[axis] == label.size
            if axis not in numbers.collapsed_slice_dims:
                where = next(offsets)
                if whole:
                    out[where] = terms
            if not whole:
                self.fix(Value([terms]))
        return [Value(out, x[0].zero)]


def integers(terms: Iterable[Fraction]) -> list[int]:
    """Numbers as the smallest integers in the same ratio."""
    found = list(terms)
    common = math.lcm(*(x.denominator for x in found))
    whole = [int(x * common) for x in found]
    return [x // math.gcd(*whole) for x in whole]
