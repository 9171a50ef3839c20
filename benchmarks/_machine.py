"""What a number was measured with: versions, source, device and processor."""

import functools
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax


def versions() -> dict[str, str]:
    """Versions of Python, of the libraries and of this project's own source."""
    names = ("jax", "jaxlib", "optax", "flax", "numpy", "jax-between")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found | {"source": _source_digest()}


@functools.cache
def _source_digest() -> str:
    """Of the code that numbers depend on, so that a changed one is not resumed."""
    root = Path(__file__).parent.parent
    packages = ("rllc", "combinability", "stitching", "benchmarks")
    files = [path for name in packages for path in (root / name).rglob("*.py")]
    presentation = {
        "report",
        "speed",
        "__main__.py",
        "_combine.py",
        "_compare.py",
        "_launch.py",
        "_stitch.py",
        "_summaries.py",
        "runs",
    }
    digest = hashlib.sha256()
    for path in sorted(files):
        place = path.relative_to(root)
        if place.parts[1] not in presentation:
            digest.update(place.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def machine() -> dict[str, Any]:
    """The accelerator as JAX names it, and the processor."""
    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "devices": len(devices),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
