"""Forms that a value read from JSON may have, and where it departs from one.

| form | is met by |
|---|---|
| `str`, `bool`, `int`, `float` | a value of this type; an int is a `float` as well |
| `object` | anything |
| `[form]` | a list, each of whose entries meets the form |
| `Per(name, form)` | the same, and as long as all lists per what is named |
| `{"name": form}` | a dict with these names; one that ends in `?` may be missing |
| `Each(form)` | a dict with any names, each of whose entries meets the form |
| `Apart(form)` | the same, and each entry has lengths of its own |
| `Maybe(form)` | null, or what meets the form |

The first list per seed, say, tells how many seeds there are: every later one must have
as many entries, but for those in other entries of an `Apart`.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple


class Each(NamedTuple):
    """A dict whose names differ from run to run."""

    form: Any


class Apart(NamedTuple):
    """A dict whose names differ from run to run, and lengths from name to name."""

    form: Any


class Maybe(NamedTuple):
    """Null, or what meets the form."""

    form: Any


class Per(NamedTuple):
    """A list with an entry per what is named."""

    name: str
    form: Any


class _Length(NamedTuple):
    """How many entries lists have, and the place of the first such list."""

    entries: int
    place: str


def departures(form: Any, value: Any, *, exact: bool = False) -> Iterator[str]:
    """Where a value departs from a form, and how.

    Args:
        form: what is expected.
        value: what came.
        exact: whether a dict may hold no other names than its form.

    Example:
        >>> form = {"loss": Maybe(float), "seeds": Per("seed", int)}
        >>> list(departures(form, {"loss": None, "seeds": [1, "2"]}))
        ["seeds[1]: expected int, got '2'"]
        >>> form["errors"] = Per("seed", float)
        >>> list(departures(form, {"loss": 0.5, "seeds": [1, 2], "errors": [0.1]}))
        ['errors: expected 2 entries, one per seed as in seeds, got 1']
    """
    for place, said in _Reading(exact, {}).departures(form, value, ""):
        yield f"{_shown(place)}: {said}"


class _Reading(NamedTuple):
    """What is read so far, and how strictly."""

    exact: bool
    lengths: dict[str, _Length]

    def departures(self, form: Any, value: Any, at: str) -> Iterator[tuple[str, str]]:
        """The places where a value departs from a form, and what there is to say."""
        if isinstance(form, Maybe):
            if value is not None:
                yield from self.departures(form.form, value, at)
        elif isinstance(form, type):
            if not _is(form, value):
                yield at, f"expected {form.__name__}, got {_short(value)}"
        elif isinstance(form, list | Per):
            yield from self._of_list(form, value, at)
        elif not isinstance(value, dict):
            yield at, f"expected a dict, got {_short(value)}"
        elif isinstance(form, Each | Apart):
            for name, entry in value.items():
                inside = self if isinstance(form, Each) else self._apart()
                yield from inside.departures(form.form, entry, f"{at}.{name}")
        else:
            yield from self._of_dict(form, value, at)

    def _apart(self) -> "_Reading":
        return self._replace(lengths=dict(self.lengths))

    def _of_list(self, form: Any, value: Any, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, list):
            yield at, f"expected a list, got {_short(value)}"
            return
        if isinstance(form, Per):
            first = self.lengths.setdefault(form.name, _Length(len(value), at))
            if len(value) != first.entries:
                yield (
                    at,
                    f"expected {first.entries} entries, one per {form.name} as in "
                    f"{_shown(first.place)}, got {len(value)}",
                )
        inner = form.form if isinstance(form, Per) else form[0]
        for index, entry in enumerate(value):
            yield from self.departures(inner, entry, f"{at}[{index}]")

    def _of_dict(self, form: dict, value: dict, at: str) -> Iterator[tuple[str, str]]:
        for name, entry in form.items():
            key = name.removesuffix("?")
            if key in value:
                yield from self.departures(entry, value[key], f"{at}.{key}")
            elif key == name:
                yield at, f"it lacks {key!r}"
        if self.exact:
            known = {name.removesuffix("?") for name in form}
            for name in value.keys() - known:
                yield at, f"expected {sorted(known)}, got {name!r} besides"


def _shown(place: str) -> str:
    return place.removeprefix(".") or "the whole"


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
