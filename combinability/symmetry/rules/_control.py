"""Operations that hold programs: calls, branches and loops."""

from typing import Any

from combinability._jaxpr import CALLS, called, read_scan, read_while
from combinability.symmetry import _label
from combinability.symmetry._label import Label
from combinability.symmetry._walk import Labels, Walk
from combinability.symmetry.rules._registry import register_rule


@register_rule(*CALLS)
def call(walk: Walk, equation: Any, *operands: Labels):
    """What the program inside means."""
    program, chosen = called(equation, operands)
    return walk.run(program, chosen, called(equation, walk.varying)[1])


@register_rule("cond")
def cond(walk: Walk, equation: Any, index: Labels, *operands: Labels):
    """The results of all branches unify."""
    results, flags = None, []
    for branch in equation.params["branches"]:
        found, flags = walk.hidden(branch, operands, walk.varying[1:])
        results = found if results is None else _unify_values(results, found)
    return results or [], [any(walk.varying)] * len(flags)


@register_rule("scan")
def scan(walk: Walk, equation: Any, *operands: Labels):
    """The scanned axes unify and are pinned; a carry is alike in all iterations."""
    body, constants, carry, scanned, length, _ = read_scan(equation, operands)
    reason = "a scan goes through them in order"
    along = _label.variable(length, reason)
    for labels in scanned:
        along = _label.unify(along, _label.pin(labels[0], reason))
    slices = [labels[1:] for labels in scanned]
    flag = any(walk.varying)
    flags = read_scan(equation, walk.varying)
    varying = [*flags.constants, *[flag] * len(carry), *flags.scanned]
    mark, settled = walk.mark(), False
    while not settled:
        walk.forget(mark)
        results, _ = walk.iterating(along, body, [*constants, *carry, *slices], varying)
        carry, settled = _next_carry(carry, results[: len(carry)])
    stacked = [[along, *labels] for labels in results[len(carry) :]]
    return [*carry, *stacked], [flag] * len(results)


@register_rule("while")
def while_(walk: Walk, equation: Any, *operands: Labels):
    """A carry is alike in all iterations."""
    loop = read_while(equation, operands)
    carry = loop.carry
    flag = any(walk.varying)
    mark, settled = walk.mark(), False
    while not settled:
        walk.forget(mark)
        results, _ = walk.hidden(
            loop.body,
            [*loop.body_constants, *carry],
            [flag] * (len(loop.body_constants) + len(carry)),
        )
        carry, settled = _next_carry(carry, results)
    tested = [*loop.condition_constants, *carry]
    walk.hidden(loop.condition, tested, [flag] * len(tested))
    return carry, [flag] * len(carry)


def _next_carry(carry: list[Labels], results: list[Labels]):
    """What a carry has become, and whether nothing uniform in it began to vary."""
    joined = _unify_values(carry, results)
    before, after = (sum(map(_uniform_size, x)) for x in (carry, joined))
    return joined, before == after


def _uniform_size(labels: Labels) -> int:
    """How many positions of a value are uniform along an axis."""
    return sum(_uniform_leaves(label) for label in labels)


def _uniform_leaves(label: Label) -> int:
    label = label.resolve()
    if label.kind == "uniform":
        return label.size
    return sum(map(_uniform_leaves, label.parts))


def _unify_values(first: list[Labels], second: list[Labels]) -> list[Labels]:
    return [
        [_label.unify(i, j) for i, j in zip(x, y, strict=True)]
        for x, y in zip(first, second, strict=True)
    ]
