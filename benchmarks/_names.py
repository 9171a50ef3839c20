"""Looking up what an option names: in a table, or by import path."""

import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any


def check_name(option: str, name: str, known: Iterable[str], besides: str = "") -> None:
    """Raise if a name is not known.

    Args:
      option: What the error names.
      name: The name.
      known: The names there are.
      besides: What else would be accepted, for the error.

    Raises:
      ValueError: With the nearest name.
    """
    known = list(known)
    if name in known:
        return
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    names = ", ".join(known) + besides
    raise ValueError(f"{option}: expected one of {names}, got {name!r}{hint}")


def is_import_path(name: str) -> bool:
    """Whether a name is of the form `package.module:name`."""
    return ":" in name


def import_object(option: str, path: str) -> Any:
    """Return what an import path names; modules are also found from here.

    Args:
      option: What the error names.
      path: `package.module:name`.

    Raises:
      ValueError: If there is no such module or name.
    """
    module, _, name = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ValueError(
            f"{option}: there is no module {error.name!r} for {path!r}, neither "
            "installed nor in the current folder"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{option}: {module!r} has no {name!r}") from error


def lookup(table: Mapping[str, Any], name: str, option: str) -> Any:
    """Return `table[name]`, or raise as `check_name` does."""
    check_name(option, name, table)
    return table[name]
