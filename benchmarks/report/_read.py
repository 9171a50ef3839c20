"""Results as records whose fields are attributes."""

import os
from typing import Any

from benchmarks.runs import read_result

_NAMES = {"setting": "at", "method": "way", "unmatched": "not matched"}
_OPTIONAL: dict[str, Any] = {"comparisons": [], "problems": {}, "targets": {}}


class Record(dict):
    """A mapping whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        for key in (name, _NAMES.get(name)):
            if key in self:
                return self[key]
        if name in _OPTIONAL:
            return _OPTIONAL[name]
        raise AttributeError(name)


def records(value: Any) -> Any:
    if isinstance(value, dict):
        return Record({name: records(each) for name, each in value.items()})
    return [records(each) for each in value] if isinstance(value, list) else value


def read(folder: str | os.PathLike[str]) -> Any:
    """The result of a finished run."""
    return records(read_result(folder))
