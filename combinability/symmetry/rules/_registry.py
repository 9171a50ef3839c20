"""The registry of rules: what each operation means for the labels of its axes."""

from collections.abc import Callable
from typing import Any

from combinability._checks import check_function

RULES: dict[str, Callable[..., Any]] = {}


def register_rule(*primitives: str) -> Callable[[Callable], Callable]:
    """Registers the rule of one or more primitives, for `infer_symmetry`.

    A rule is a function `rule(walk, equation, *operands)`. `equation` is the traced
    `JaxprEqn`; each operand is a list with the label of each of its axes; the rule
    returns such a list for each result. It may `unify` labels of axes that must be
    permuted alike, `pin` those that must stay, and call `walk.contract` and
    `walk.consume` for axes that are summed over. A primitive without a rule pins all of
    its axes, so that a missing rule hides a symmetry but never invents one.

    Args:
        *primitives: names, as a printed jaxpr shows them; a name that is registered
            already gets the new rule.

    Returns:
        A decorator that registers a function and returns it.

    Raises:
        TypeError: if there is no name, or one is not a string (as when the decorator
            lacks its call), or what is decorated is no function.

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
