"""Forms that a value read from JSON may have, and where it departs from one.

| form | is met by |
|---|---|
| `str`, `bool`, `int`, `float` | a value of this type; an int is a `float` as well |
| `object` | anything |
| `[form]` | a list, each of whose entries meets the form |
| `{"name": form}` | a dict with these names; one that ends in `?` may be missing |
| `Each(form)` | a dict with any names, each of whose entries meets the form |
| `Maybe(form)` | null, or what meets the form |
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple


class Each(NamedTuple):
    """A dict whose names differ from run to run."""

    form: Any


class Maybe(NamedTuple):
    """Null, or what meets the form."""

    form: Any


def departures(form: Any, value: Any, *, exact: bool = False) -> Iterator[str]:
    """Where a value departs from a form, and how.

    Args:
        form: what is expected.
        value: what came.
        exact: whether a dict may hold no other names than its form.

    Example:
        >>> form = {"loss": Maybe(float), "seeds": [int]}
        >>> list(departures(form, {"loss": None, "seeds": [1, "2"]}))
        ["seeds[1]: expected int, got '2'"]
    """
    for place, said in _departures(form, value, exact, ""):
        yield f"{place.removeprefix('.') or 'the whole'}: {said}"


def _departures(form: Any, value: Any, exact: bool, at: str) -> Iterator[tuple]:
    if isinstance(form, Maybe):
        if value is not None:
            yield from _departures(form.form, value, exact, at)
    elif isinstance(form, type):
        if not _is(form, value):
            yield at, f"expected {form.__name__}, got {_short(value)}"
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield at, f"expected a list, got {_short(value)}"
        else:
            for index, entry in enumerate(value):
                yield from _departures(form[0], entry, exact, f"{at}[{index}]")
    elif not isinstance(value, dict):
        yield at, f"expected a dict, got {_short(value)}"
    elif isinstance(form, Each):
        for name, entry in value.items():
            yield from _departures(form.form, entry, exact, f"{at}.{name}")
    else:
        yield from _entries(form, value, exact, at)


def _entries(form: dict, value: dict, exact: bool, at: str) -> Iterator[tuple]:
    for name, entry in form.items():
        key = name.removesuffix("?")
        if key in value:
            yield from _departures(entry, value[key], exact, f"{at}.{key}")
        elif key == name:
            yield at, f"it lacks {key!r}"
    if exact:
        known = {name.removesuffix("?") for name in form}
        for name in value.keys() - known:
            yield at, f"expected {sorted(known)}, got {name!r} besides"


def _is(form: type, value: Any) -> bool:
    if form is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if form is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, form)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
