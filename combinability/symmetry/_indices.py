"""Indices: values whose entries are positions along a class of units.

When the units of a class move, x'[i] = x[π[i]], what was at position p is then found at
π⁻¹[p]. What finds positions (`argmax`, `top_k`, `sort` with an `iota`, `iota` itself)
gives an `Index` of the class. What only moves entries keeps it. Comparing two indices,
and looking up or writing by one, gives the class back. Whatever else is done with an
index depends on the order of the units, and pins them.

What was looked up by an index stands for one unit of the class at every position of the
index: a `Selection`. Hidden units of experts whose weights are gathered may so still be
permuted within each expert, as long as they are combined with values of the same
selection only.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from combinability._jaxpr import ELEMENTWISE
from combinability.symmetry import _label
from combinability.symmetry._label import Label


class Selection(NamedTuple):
    """One unit of a class for each position along some axes.

    Attributes:
        source: stands for the entries of an index, in any order.
        of: the class.
        labels: the labels of the axes; a value has the selection if each is once in it.
    """

    source: Any
    of: Label
    labels: tuple[Label, ...]

    def on(self, labels: Iterable[Label]) -> bool:
        """Whether each of the selection's labels is there once."""
        found = list(map(_label.structure, labels))
        return all(found.count(_label.structure(x)) == 1 for x in self.labels)


class Index(NamedTuple):
    """Positions along a class of units.

    Attributes:
        of: the class.
        at: the units that the entries pick; without a source where they just count.
        along: the axis along which no entry comes twice, if there is one.
        shifted: whether the size of the class was added, as for negative indices.
        reason: why the class is pinned if something else is done with them.
    """

    of: Label
    at: Selection
    along: Label | None = None
    shifted: bool = False
    reason: str = "their positions are compared or returned"


class Number(NamedTuple):
    """All entries are this number."""

    value: Any


class Columns(NamedTuple):
    """Along the last axis are coordinates; what is known of each."""

    each: tuple[Any, ...]


class Counts(NamedTuple):
    """How often an index gives each unit of a class; or where it does, as 0 and 1."""

    source: Any
    of: Label


class Axes(list[Label]):
    """The labels of a value's axes.

    Attributes:
        known: what is known of its entries: an `Index`, `Number`, … or `None`.
        at: the selections that it has.
    """

    def __init__(
        self,
        labels: Iterable[Label] = (),
        known: Any = None,
        at: Iterable[Selection] = (),
    ):
        super().__init__(labels)
        self.known, self.at = known, frozenset(at)

    @classmethod
    def of(cls, labels: Sequence[Label]) -> "Axes":
        """A copy."""
        return cls(labels, getattr(labels, "known", None), getattr(labels, "at", ()))

    def take(self) -> Any:
        """What is known, for a rule that deals with it; it pins nothing any more."""
        known, self.known = self.known, None
        return known

    def classes(self) -> list[Label]:
        """The classes of its selections, and that of an index."""
        found = [selection.of for selection in self.at]
        if isinstance(self.known, Index) and self.known.at.source is not None:
            found.append(self.known.of)
        return found


def index_of(of: Label, labels: Iterable[Label], **more: Any) -> Index:
    """An index of a class, with entries of their own."""
    return Index(of, Selection(object(), of, _axes(labels)), **more)


def numbers_of(of: Label) -> Index:
    """The index 0, 1, … of a class, along itself."""
    reason = "position numbers (iota) tell them apart"
    return Index(of, Selection(None, of, (of,)), of, reason=reason)


def _axes(labels: Iterable[Label]) -> tuple[Label, ...]:
    return tuple(x for x in labels if x.size > 1 and x.resolve().kind != "uniform")


def pin_known(known: Any) -> None:
    """Pin the class of an index, since something else is done with it."""
    for each in known.each if isinstance(known, Columns) else [known]:
        if isinstance(each, Index):
            _label.pin(each.of, each.reason)


def same_class(label: Label, known: Any) -> bool:
    """Unify the label of an axis with the class of an index of positions along it.

    Args:
        label: the label of the axis.
        known: what is known of the entries of the index.

    Returns:
        Whether it is an index of as many units; else nothing is done.
    """
    if not isinstance(known, Index) or known.shifted or known.of.size != label.size:
        return False
    _label.use(_label.unify(known.of, label))
    return True


# Axes of equal labels are the same ones, in the same order, in operands and results.
_KEEPS_AXES = {
    *ELEMENTWISE,
    *("transpose", "squeeze", "broadcast_in_dim", "reshape", "slice", "split"),
    *("concatenate", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
}
# Entries of the results are entries of the first operand; of these, all of them once.
_ALL_ONCE = {"transpose", "squeeze", "reshape", "convert_element_type", "copy"}
_MOVES = {*_ALL_ONCE, "broadcast_in_dim", "slice", "split", "gather"}


def follow(equation: Any, operands: Sequence[Axes], results: list[Axes]) -> None:
    """Say what is known of results, and which selections they have.

    Rules take what they deal with from the operands and put it on the results. A class
    whose index is left is pinned, if this operation is not one that keeps it.
    """
    name = equation.primitive.name
    if name in _KEEPS_AXES:
        kept = {s for x in operands for s in x.at if s.on(x)}
        for result in results:
            result.at |= {s for s in kept if s.on(result)}
    known = _known(equation, operands, results)
    if known is None:
        for x in operands:
            pin_known(x.known)
        return
    for result in results:
        moved = isinstance(known, Index) and name in _MOVES
        result.known = _moved(known, name, operands[0], result) if moved else known


def _moved(index: Index, name: str, operand: Axes, result: Axes) -> Index:
    """An index after its entries were moved."""
    if name in _KEEPS_AXES and index.at.on(operand) and index.at.on(result):
        return index
    same = name in _ALL_ONCE and index.at.source is not None
    source = index.at.source if same else object()
    return index._replace(at=Selection(source, index.of, _axes(result)), along=None)


def _known(equation: Any, operands: Sequence[Axes], results: Sequence[Axes]) -> Any:
    """What is known of results, if it follows from what is known of the operands."""
    name, known = equation.primitive.name, [x.known for x in operands]
    if not results or all(each is None for each in known):
        return None
    index = next((each for each in known if isinstance(each, Index)), None)
    number = next((each.value for each in known if isinstance(each, Number)), None)
    dtype = equation.outvars[0].aval.dtype
    match name:
        case "convert_element_type" if isinstance(known[0], Number):
            return Number(np.asarray(number).astype(dtype))
        case "convert_element_type":  # narrow types may not hold large positions
            return known[0] if dtype.itemsize >= 4 else None
        case "reduce_sum" if isinstance(known[0], Counts):
            kept = map(_label.structure, results[0])
            return known[0] if _label.structure(known[0].of) in kept else None
        case "select_n" if isinstance(known[0], Number):
            return known[1 + int(known[0].value)]
        case "concatenate":
            return _joined(known, operands, equation.params["dimension"])
        case "eq" if index:
            return _compared(known, operands, results[0])
        case _ if name in _MOVES and isinstance(known[0], Index | Number):
            return known[0]
    if index is None or index.shifted or number is None:
        return None
    # Positions lie between 0 and the size of the class.
    match name:
        case "lt" if known[0] is index and number <= 0:
            return Number(False)
        case "add" | "sub" if name == "add" or known[0] is index:
            return index if number == 0 else index._replace(shifted=True)
        case "max" if number <= 0:
            return index
        case "min" if number >= index.of.size - 1:
            return index
    return None


def _joined(known: Sequence[Any], operands: Sequence[Axes], axis: int) -> Any:
    if axis == len(operands[0]) - 1 and all(x[-1].size == 1 for x in operands):
        return Columns(tuple(known))
    return None


def _compared(
    known: Sequence[Any], operands: Sequence[Axes], result: Axes
) -> Counts | None:
    """Where two indices are equal does not depend on the order of the units."""
    first, second = known
    if not isinstance(first, Index) or first.shifted:
        return None
    if not same_class(first.of, second):
        return None
    of = _label.structure(first.of)
    for i, j in ((0, 1), (1, 0)):
        along = known[j].along
        if along and known[j].at.source is None and _label.structure(along) == of:
            axes = [n for n, x in enumerate(operands[j]) if _label.structure(x) == of]
            pairs = enumerate(zip(operands[i], result, strict=True))
            if axes == [n for n, (x, y) in pairs if repeated(x) or x.size < y.size]:
                return Counts(known[i].at.source, first.of)
    return Counts(None, first.of)


def repeated(label: Label) -> bool:
    """Whether entries repeat along an axis."""
    return label.size > 1 and label.resolve().kind == "uniform"
