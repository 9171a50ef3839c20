"""Operations that hold programs: calls, branches and loops."""

from collections.abc import Callable, Sequence
from typing import Any

from combinability._jaxpr import CALLS, called, read_scan, read_while
from combinability.symmetry import _label
from combinability.symmetry._indices import Axes
from combinability.symmetry._label import Label
from combinability.symmetry._walk import Labels, Walk, register_rule


@register_rule(*CALLS)
def call(walk: Walk, equation: Any, *operands: Axes):
    """Label the program that is called."""
    program, chosen = called(equation, operands)
    results = walk.run(program, chosen, called(equation, walk.varying)[1])
    for labels in chosen:
        labels.take()
    return results


@register_rule("cond")
def cond(walk: Walk, equation: Any, index: Labels, *operands: Labels):
    """The results of all branches unify."""
    branches = [
        walk.hidden(branch, operands, walk.varying[1:])[0]
        for branch in equation.params["branches"]
    ]
    results = [_label.unify_all(values) for values in zip(*branches, strict=True)]
    return results, [any(walk.varying)] * len(results)


@register_rule("scan")
def scan(walk: Walk, equation: Any, *operands: Labels):
    """The scanned axes unify and are pinned; a carry keeps its labels."""
    body, constants, carry, scanned, length, _ = read_scan(equation, operands)
    reason = "a scan goes through them in order"
    along = _label.variable(length, reason)
    for labels in scanned:
        along = _label.unify(along, _label.pin(labels[0], reason))
    slices = [labels[1:] for labels in scanned]
    flag = any(walk.varying)
    flags = read_scan(equation, walk.varying)
    varying = [*flags.constants, *[flag] * len(carry), *flags.scanned]

    def iteration(carry: list[Labels]) -> Sequence[Labels]:
        inputs = [*constants, *carry, *slices]
        return walk.iterating(along, body, inputs, varying)[0]

    carry, results = _settled(walk, carry, iteration)
    stacked = [[along, *labels] for labels in results[len(carry) :]]
    return [*carry, *stacked], [flag] * len(results)


@register_rule("while")
def while_(walk: Walk, equation: Any, *operands: Labels):
    """A carry keeps its labels from one iteration to the next."""
    loop = read_while(equation, operands)
    flag = any(walk.varying)

    def iteration(carry: list[Labels]) -> Sequence[Labels]:
        inputs = [*loop.body_constants, *carry]
        return walk.hidden(loop.body, inputs, [flag] * len(inputs))[0]

    carry, _ = _settled(walk, loop.carry, iteration)
    inputs = [*loop.condition_constants, *carry]
    walk.hidden(loop.condition, inputs, [flag] * len(inputs))
    return carry, [flag] * len(carry)


def _settled(
    walk: Walk,
    carry: list[Labels],
    iteration: Callable[[list[Labels]], Sequence[Labels]],
) -> tuple[list[Labels], Sequence[Labels]]:
    """The labels of a carry that hold in every iteration, and those of all results.

    What is uniform before the first iteration may vary after it (a buffer of zeros), so
    the body is labelled again until no uniform part of the carry starts to vary.
    """
    mark = walk.mark()
    carry = [list(labels) for labels in carry]  # without what is known at the start
    while True:
        walk.forget(mark)
        results = iteration(carry)
        joined = _unified(carry, results[: len(carry)])
        if _uniform_size(joined) == _uniform_size(carry):
            return joined, results
        carry = joined


def _unified(first: Sequence[Labels], second: Sequence[Labels]) -> list[Labels]:
    return [_label.unify_all(pair) for pair in zip(first, second, strict=True)]


def _uniform_size(values: list[Labels]) -> int:
    """How many positions along the axes of some values are uniform."""

    def size(label: Label) -> int:
        label = label.resolve()
        return label.size if label.kind == "uniform" else sum(map(size, label.parts))

    return sum(size(label) for labels in values for label in labels)
