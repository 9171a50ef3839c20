"""What a number was measured with: versions, source, device and processor."""

import functools
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import msgspec

from benchmarks._own_code import PACKAGES, code_files
from benchmarks.data._load import Folder, places

_LIBRARIES = ("jax", "jaxlib", "optax", "flax", "numpy", "jax-between")
# What presents numbers, and does not change them.
_PRESENTATION = ("report", "speed", "plot.py", "runs.py", "results", "__main__.py")
_PRESENTATION += ("_launch.py",)


class Machine(msgspec.Struct, kw_only=True):
    """Where a run computes."""

    device: str  # its kind, as JAX names it
    devices: int  # how many
    cpu: str  # the processor
    cores: int  # those that this process may use


def machine() -> Machine:
    """Return the accelerator as JAX names it, and the processor."""
    devices = jax.devices()
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        device=devices[0].device_kind,
        devices=len(devices),
        cpu=_cpu_name(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
    )


def versions(config: Mapping[str, Any], directory: Folder = None) -> dict[str, str]:
    """Return versions of Python, of libraries, and digests of code and files.

    Files that options name are looked for from here, then in the data folder.
    """
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["source"] = _source_digest()
    names = list(_strings(config))
    files = {n: _own_path(n, directory, n in config.get("weights", ())) for n in names}
    files |= code_files(names)
    return found | {name: _digest(path) for name, path in files.items() if path}


def _own_path(name: str, directory: Folder, may_be_folder: bool) -> Path | None:
    """The file or folder that an option names."""
    for path in places(name, directory):
        # Not `path.is_file`, which raises for a long text that is no path.
        file = path.suffix and os.path.isfile(path)
        if file or (may_be_folder and path.is_dir()):
            return path
    return None


def _digest(path: Path) -> str:
    """Digest a file, or a folder with all that is in it."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) or [path]:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


@functools.cache
def _source_digest() -> str:
    """Digest the code that numbers depend on, so that a changed one is not resumed."""
    root = Path(__file__).parent.parent
    files = [path for name in PACKAGES for path in (root / name).rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        place = path.relative_to(root)
        if place.parts[1] not in _PRESENTATION:
            digest.update(place.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
