"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable
from typing import Any


def lazy(package: str, **where: str) -> Callable[[str], Any]:
    """Return a package's `__getattr__`: names, and the module of each within it."""

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{where[name]}"), name)

    return get
