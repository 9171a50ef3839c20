"""The walk: every axis of every value of a traced program gets a label.

Each operation has a rule that says how the labels of its results follow from those of
its operands. The walk also notes what decides which groups lie within others (see
`_groups.py`), and which values layers take in (see `_carriers.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from combinability._checks import check_function
from combinability._jaxpr import Literal, Program, parts
from combinability.symmetry import _indices, _label
from combinability.symmetry._indices import (
    Axes,
    Counts,
    Index,
    Number,
    Selection,
)
from combinability.symmetry._label import Label
from combinability.symmetry._symmetry import is_key

Labels = list[Label]

RULES: dict[str, Callable[..., Any]] = {}


def register_rule(*primitives: str) -> Callable[[Callable], Callable]:
    """Register the rule of one or more primitives, for `infer_symmetry`.

    A rule is a function `rule(walk, equation, *operands)`. `equation` is the traced
    `JaxprEqn`; each operand is a list with the label of each of its axes; the rule
    returns such a list for each result. It may `unify` labels of axes that must be
    permuted alike and call `walk.pin` for axes that must stay, `walk.contract` or
    `walk.mix` for axes that are summed over, and `walk.consume` for a layer's input. A
    primitive without a rule pins all of its axes, so that a missing rule hides a
    symmetry but never invents one. So does a rule that is given positions (an `argmax`)
    along a class of units: it pins the class.

    Args:
        *primitives: names, as a printed jaxpr shows them; a name that is registered
            already gets the new rule.

    Returns:
        A decorator that registers a function and returns it.

    Raises:
        TypeError: if there is no name, or one is not a string (as when the decorator
            is not called), or what is decorated is not a function.

    Example:
        >>> from combinability.symmetry import register_rule, unify
        >>> @register_rule("my_add")
        ... def add(walk, equation, x, y):
        ...     return [[unify(i, j) for i, j in zip(x, y, strict=True)]]
    """
    if not primitives:
        raise TypeError("register_rule: expected the name of a primitive, got none")
    for name in primitives:
        if not isinstance(name, str):
            raise TypeError(
                f"register_rule: expected names of primitives, got {name!r}; write "
                f'@register_rule("name") above the rule'
            )

    def register(rule: Callable) -> Callable:
        check_function("rule", rule, "rule(walk, equation, *operands)")
        RULES.update(dict.fromkeys(primitives, rule))
        return rule

    return register


class Value(NamedTuple):
    """The labels of a value, and of what it is computed for once per unit.

    `iterated` are the scans that it is inside of; in what the walk notes of all values
    also the classes of which an index picks a unit, or is a position.
    """

    labels: tuple[Label, ...]
    iterated: tuple[Label, ...]


class Contraction(NamedTuple):
    """Axes that a product sums over, and batch axes, along which sums are separate."""

    summed: tuple[Label, ...]
    separate: tuple[Label, ...]


class Mixing(NamedTuple):
    """Axes along which an operation sums or reorders units, and the other axes."""

    mixed: tuple[Label, ...]
    others: tuple[Label, ...]


class Operand(NamedTuple):
    """A value that a layer takes in.

    Attributes:
        path: the numbers of the equations that lead to it, then that of the operand.
        value: its labels.
    """

    path: tuple[int, ...]
    value: Value


class Walk:
    """Labels values equation by equation.

    Rules get the walk as their first argument. They call `contract` and `mix` for axes
    that are summed over, `pin` for those that must stay, and `run` for programs inside
    an equation.

    Args:
        rules: primitive name -> rule.
    """

    def __init__(self, rules: Mapping[str, Callable]):
        self._rules = rules
        self._path: tuple[int, ...] = ()
        self._iterated: tuple[Label, ...] = ()
        self._hidden = False
        self.varying: list[bool] = []
        self.values: list[Value] = []
        self.contractions: list[Contraction] = []
        self.mixings: list[Mixing] = []
        self.operands: list[Operand] = []
        self.followed: list[Label] = []
        self.sorted: dict[Selection, Label] = {}
        self.labels: dict[tuple[int, ...], tuple[list[Axes], list[Axes]]] = {}

    def run(
        self,
        program: Program,
        operands: Sequence[Sequence[Label]],
        varying: Sequence[bool] | None = None,
    ) -> tuple[list[Axes], list[bool]]:
        """Label the results of a program.

        Args:
            program: the program.
            operands: for each of its inputs the labels of its axes.
            varying: for each of its inputs whether it depends on the network's input;
                by default as the operands of the current equation.

        Returns:
            For each result the labels of its axes; whether it depends on the input.
        """
        constants, inputs, equations, outputs = parts(program)
        varying = self.varying if varying is None else varying
        given = zip(operands, varying, strict=True)
        known = {
            var: (Axes(constant_labels(value)), False)
            for var, value in constants.items()
        } | dict(zip(inputs, given, strict=True))

        def read(atom):
            if isinstance(atom, Literal):
                number = Number(atom.val) if np.ndim(atom.val) == 0 else None
                uniform = map(_label.uniform, np.shape(atom.val))
                return Axes(uniform, number), False
            return known[atom]

        for number, equation in enumerate(equations):
            inputs = [read(atom) for atom in equation.invars]
            outer, self.varying = self.varying, [flag for _, flag in inputs]
            self._path += (number,)
            operands = [Axes.of(x) for x, _ in inputs]
            results, flags = self._equation(equation, operands)
            self.labels[self._path] = operands, results
            self._path, self.varying = self._path[:-1], outer
            for var, labels, flag in zip(equation.outvars, results, flags, strict=True):
                known[var] = labels, flag
                for_each = (*self._iterated, *labels.classes())
                self.values.append(Value(tuple(labels), for_each))
        results = [read(atom) for atom in outputs]
        return [Axes.of(labels) for labels, _ in results], [f for _, f in results]

    def _equation(self, equation: Any, operands: list[Axes]):
        rule = self._rules.get(equation.primitive.name, _without_rule)
        results, flags = rule(self, equation, *operands), [any(self.varying)]
        if isinstance(results, tuple):
            results, flags = results
        results = [Axes.of(labels) for labels in results]
        _indices.follow(equation, operands, results)
        return results, flags * len(results) if len(flags) == 1 else flags

    def find_positions(
        self, of: Label, dtype: Any, labels: Sequence[Label], **more: Any
    ) -> Index | None:
        """The index that `argmax`, `top_k` or `sort` returns.

        Args:
            of: the label of the axis of the values.
            dtype: their type.
            labels: the labels of the index.
            **more: what else is known of it.

        Returns:
            The index; `None`, with the class pinned, where values may well be equal, as
            the first of them would be taken.
        """
        if _label.varies(of) and jnp.issubdtype(dtype, jnp.inexact):
            self.followed.append(_label.use(of))
            return _indices.index_of(of, labels, **more)
        _label.pin(of, "the first of equal values is taken")
        return None

    def rows_sorted_by(self, index: Index, size: int) -> Label:
        """The label of rows that were sorted by an index; to pin it pins its class."""
        if index.at not in self.sorted:
            rows = _label.variable(size)
            rows.link = index.of if size > 1 else None
            self.sorted[index.at] = rows
        return self.sorted[index.at]

    def selection_of_rows(self, rows: Label, sizes: Axes) -> Selection | None:
        """The class by which rows were sorted, if sizes say how many each unit has."""
        known = sizes.known
        if not isinstance(known, Counts) or len(sizes) != 1:
            return None
        if _label.structure(sizes[0]) != _label.structure(known.of):
            return None
        for at, label in self.sorted.items():
            same = label.resolve() is rows.resolve() or label.size == rows.size == 1
            if same and known.source is at.source is not None:
                return at._replace(labels=(label,) if label.size > 1 else ())
        return None

    def contract(
        self, labels: Sequence[Label], axes: Sequence[int], batch: Sequence[Label]
    ) -> None:
        """Note that a product with another operand sums over axes of this one.

        Args:
            labels: the labels of the operand.
            axes: the axes that are summed over.
            batch: the labels of the axes along which there is a sum for each unit.
        """
        self.pair([labels[axis] for axis in axes], batch)
        self.mix(labels, axes)

    def pair(self, units: Sequence[Label], separate: Sequence[Label]) -> None:
        """Note that units of one operand are paired with the same units of another.

        Args:
            units: their labels.
            separate: the labels of the axes along which there is a pair for each unit.
        """
        separate = (*separate, *self._iterated)
        self.contractions.append(Contraction(tuple(units), separate))

    def mix(self, labels: Sequence[Label], axes: Sequence[int]) -> None:
        """Note that axes of an operand are summed over, or their units reordered.

        Args:
            labels: the labels of the operand.
            axes: these axes.
        """
        mixed = tuple(_label.use(labels[axis]) for axis in axes)
        others = tuple(x for axis, x in enumerate(labels) if axis not in axes)
        self.mixings.append(Mixing(mixed, others))

    def pin(self, labels: Labels, axis: int, reason: str, size: int) -> Label:
        """Pin an axis of an operand, since an operation treats its units differently.

        Args:
            labels: the labels of the operand.
            axis: the axis.
            reason: what distinguishes them.
            size: the length of that axis of the result.

        Returns:
            The label of that axis of the result, pinned too.
        """
        _label.pin(labels[axis], reason)
        self.mix(labels, [axis])
        return _label.variable(size, reason)

    def consume(self, operand: int, labels: Sequence[Label]) -> None:
        """Note that an operand is a layer's input: its units are summed over."""
        if self.varying[operand] and not self._hidden:
            value = Value(tuple(labels), self._iterated)
            where = (*self._path, operand)
            self.operands.append(Operand(where, value))

    def iterating(self, label: Label, program: Program, operands, varying):
        """As `run`, for the body of a scan along an axis."""
        outer = self._iterated
        self._iterated = (*outer, label) if label.size > 1 else outer
        results = self.run(program, operands, varying)
        self._iterated = outer
        return _without_indices(results)

    def hidden(self, program: Program, operands, varying):
        """As `run`, for a program whose values cannot be observed from outside."""
        outer, self._hidden = self._hidden, True
        results = self.run(program, operands, varying)
        self._hidden = outer
        return _without_indices(results)

    def mark(self) -> list[int]:
        """Return how much is noted so far."""
        return [len(notes) for notes in self._notes()]

    def forget(self, mark: list[int]) -> None:
        """Drop what was noted since `mark`."""
        for notes, count in zip(self._notes(), mark, strict=True):
            del notes[count:]

    def _notes(self) -> tuple[list[Any], ...]:
        return self.values, self.contractions, self.mixings, self.operands


def _without_indices(results: tuple[list[Axes], list[bool]]):
    for labels in results[0]:
        _indices.pin_known(labels.take())
    return results


_CAPTURED = "a captured array (a constant, not a variable) tells them apart"


def constant_labels(value: Any) -> list[Label]:
    """Labels of a captured array: uniform as far as it repeats itself, else pinned."""
    if hasattr(value, "dtype") and is_key(value):
        return [_label.variable(size, _CAPTURED) for size in np.shape(value)]
    array = np.asarray(value)
    return [
        _label_of_rows(np.moveaxis(array, axis, 0).reshape(size, -1))
        if array.size
        else _label.uniform(size)
        for axis, size in enumerate(array.shape)
    ]


def _label_of_rows(rows: np.ndarray) -> Label:
    """Copies of a pattern × its different rows × repeats of each of them."""
    size = len(rows)
    divisors = [k for k in range(1, size + 1) if size % k == 0]
    period = next(k for k in divisors if (rows[k:] == rows[: size - k]).all())
    pattern = rows[:period]
    for repeats in reversed([k for k in divisors if period % k == 0]):
        blocks = pattern.reshape(period // repeats, repeats, -1)
        if (blocks == blocks[:, :1]).all():
            break
    copies = _label.uniform(size // period)
    different = _label.variable(period // repeats, _CAPTURED)
    return _label.product([copies, different, _label.uniform(repeats)])


def _without_rule(walk: Walk, equation: Any, *operands: Labels):
    reason = f"no rule says what {equation.primitive.name!r} does to them"
    return pin_all(equation, operands, reason)


def pin_all(equation: Any, operands: Sequence[Labels], reason: str):
    """Pin all axes of an operation's operands and of its results."""
    for labels in operands:
        for label in labels:
            _label.pin(label, reason)
    return [
        [_label.variable(size, reason) for size in getattr(var.aval, "shape", ())]
        for var in equation.outvars
    ]
