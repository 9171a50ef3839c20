"""Files that are there whole or not at all, and what is said where they are not."""

import errno
import json
import os
from pathlib import Path
from typing import Any


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message says what to do."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file, and the folder it lies in, so that it is whole or not there.

    Raises:
        RunError: if it cannot be written: no permission, a full disk.
    """
    content = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RunError: if it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise damaged(path, "it is nested too deeply") from error
    except ValueError as error:
        raise damaged(path, str(error)) from error


def cannot_write(path: Path, error: OSError) -> RunError:
    """What to say where a file or folder cannot be written."""
    advice = "name another folder with --out"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "make room and give the same command again, which goes on from here"
    return RunError(f"cannot write {path}: {error.strerror}; {advice}")


def damaged(path: Path, why: str) -> RunError:
    """What to say where a file is not as it was written."""
    return RunError(
        f"{path} is damaged: {why}; delete it and give the run's command again, which "
        f"computes only what is missing"
    )


def dump(value: Any) -> str:
    """JSON that people can read as well; not a number in it may be infinite or NaN."""
    return _lines(value, "\n") + "\n"


def _lines(value: Any, newline: str) -> str:
    """JSON, a line for each entry, but a list of numbers on one line."""
    inner = newline + " "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(k)}: {_lines(v, inner)}" for k, v in value.items()]
        return "{" + inner + f",{inner}".join(items) + newline + "}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        items = [_lines(item, inner) for item in value]
        return "[" + inner + f",{inner}".join(items) + newline + "]"
    return json.dumps(value, allow_nan=False)
