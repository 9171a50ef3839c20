"""The user's own code: modules that options name, and those that these import."""

import contextlib
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from benchmarks._options import import_object

PACKAGES = ("rllc", "combinability", "stitching", "benchmarks")
_ROOT = Path(__file__).parent.parent
_NOT_OWN = [
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")),
    *(_ROOT / package for package in PACKAGES),
]


def code_files(names: Iterable[str]) -> dict[str, Path]:
    """Return the files of code that import paths name, and of what it imports.

    Named modules are imported; of all modules that then are, the user's own count: in
    the current folder or where a named one lies, and not installed. Names that are no
    import paths, or fail to be imported, have no files.
    """
    found, folders = {}, [Path.cwd()]
    for name in names:
        if not re.fullmatch(r"[\w.]+:\w+", name):
            continue
        with contextlib.suppress(Exception):  # reported where options are checked
            import_object("", name)
        module = name.partition(":")[0]
        path = _file(module)
        if path is not None:
            found[name] = path
            folders.append(path.parents[module.count(".")])
    if found:
        found |= {
            f"module {module}": path
            for module in sorted(sys.modules.keys() - {"__main__"})
            if (path := _file(module)) and path not in found.values()
            if any(map(path.is_relative_to, folders)) and _is_own(path)
        }
    return found


def _file(module: str) -> Path | None:
    """The file of an imported module, if it has one."""
    file = getattr(sys.modules.get(module), "__dict__", {}).get("__file__")
    path = Path(file).resolve() if file else None
    return path if path and path.is_file() else None


def _is_own(path: Path) -> bool:
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(map(path.is_relative_to, _NOT_OWN))
