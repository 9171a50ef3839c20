"""Looking a name up in a table, with a helpful error."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

_Value = TypeVar("_Value")


def lookup(table: Mapping[str, _Value], name: str, what: str) -> _Value:
    """Return `table[name]`, or say which names there are and which is nearest."""
    if name in table:
        return table[name]
    nearest = difflib.get_close_matches(str(name), table, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"unknown {what} {name!r}{hint} (known: {', '.join(table)})")
