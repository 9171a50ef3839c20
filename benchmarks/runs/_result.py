"""Reading what a run has found."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.runs import _schema
from benchmarks.runs._files import RunError, damaged, read_json
from benchmarks.runs._forms import departures


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The result of a finished run.

    Args:
        folder: the run folder.

    Returns:
        The content of `result.json`, as `benchmarks.runs.schema` says.

    Raises:
        RunError: if there is none, it is damaged, or of another schema.
    """
    path = Path(folder) / "result.json"
    if not path.exists():
        raise RunError(_why_no_result(path))
    result = read_json(path)
    found = result.get("schema") if isinstance(result, dict) else None
    if found != _schema.NUMBER:
        raise RunError(
            f"{path}: expected schema {_schema.NUMBER}, got {found!r}; read it with "
            f"the version of this project that wrote it"
        )
    wrong = list(itertools.islice(departures_of(result), 3))
    if wrong:
        raise damaged(path, "; ".join(wrong))
    return result


def departures_of(result: dict[str, Any], *, exact: bool = False) -> Iterator[str]:
    """Where a result departs from the schema.

    Args:
        result: what was read.
        exact: whether it may hold nothing that the schema does not name.
    """
    experiment = str(result.get("experiment"))
    form = _schema.COMMON | _schema.EXPERIMENTS.get(experiment, {})
    yield from departures(form, result, exact=exact)


def _why_no_result(path: Path) -> str:
    header = path.parent / "run.json"
    if not header.exists():
        return (
            f"{path.parent} holds no result.json; name the folder of a finished run, "
            f"as printed at its end"
        )
    asked = read_json(header)
    if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
        raise damaged(header, "it lacks the command")
    return f"{path.parent}: the run has not finished; go on with\n  {asked['command']}"
