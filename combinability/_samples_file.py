"""Finished samples on disk: written whole or not at all, read back bit by bit."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability._arrays_file import read_arrays
from combinability._combine import dtype_of
from combinability._jaxpr import all_constants
from combinability._metric import Metric
from combinability._program import Task
from combinability.symmetry._symmetry import path_name


class AnotherRun(ValueError):
    """A checkpoint that belongs to another run."""


class Finished(NamedTuple):
    """What a file holds.

    Attributes:
        leaves: the metric's leaves, of the first samples.
        batch: samples that ran side by side, so that a run goes on with the same one.
    """

    leaves: list[np.ndarray]
    batch: int

    @property
    def done(self) -> int:
        """How many samples."""
        return len(self.leaves[0])


@dataclasses.dataclass(frozen=True)
class SamplesFile:
    """A checkpoint of one run.

    Attributes:
        path: the file.
        run: what the run is, as `describe` gives it.
        metric: what the samples are values of.
    """

    path: Path
    run: Mapping[str, str]
    metric: Metric

    def save(self, finished: Finished) -> None:
        """Replaces the file as a whole.

        Raises:
            OSError: if it cannot be written; the file is then as it was before.
        """
        arrays: dict[str, Any] = {
            f"leaf_{i}": leaf.view(_stored(leaf.dtype))
            for i, leaf in enumerate(finished.leaves)
        }
        about = json.dumps({"run": dict(self.run), "batch": finished.batch})
        partial = self.path.with_name(f"{self.path.name}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(partial, "wb") as file:
                    np.savez(file, about=np.array(about), **arrays)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, self.path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            said = f"checkpoint: cannot be written ({error.strerror})"
            raise OSError(error.errno, said, str(self.path)) from error

    def load(self) -> Finished | None:
        """What was saved; None if there is no file.

        Raises:
            ValueError: if the file is damaged or belongs to another run.
        """
        if not self.path.exists():
            return None
        try:
            arrays = read_arrays(self.path)
            about = json.loads(str(arrays.pop("about")))
            self._check_run(dict(about["run"]))
            batch = int(about["batch"])
            if batch < 1:
                raise ValueError(f"a batch of {batch}")
            return Finished(self._leaves(arrays), batch)
        except AnotherRun:
            raise
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"checkpoint: {self.path} is damaged or holds no samples ({error}); "
                "delete it to start again"
            ) from error

    def _check_run(self, stored: Mapping[str, str]) -> None:
        differing = [
            f"{name} was {stored.get(name)}, now {self.run.get(name)}"
            for name in sorted(stored.keys() | self.run.keys())
            if stored.get(name) != self.run.get(name)
        ]
        if differing:
            raise AnotherRun(
                f"checkpoint: {self.path} belongs to another run: "
                f"{'; '.join(differing)}; delete it, or give another path"
            )

    def _leaves(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        leaves = []
        for i, output in enumerate(self.metric.outputs):
            leaf = arrays[f"leaf_{i}"]
            if leaf.dtype != _stored(output.dtype):
                raise ValueError(f"an array has dtype {leaf.dtype}")
            leaves.append(leaf.view(output.dtype))
            if leaf.shape != (len(leaves[0]), *output.shape):
                raise ValueError(f"an array has shape {leaf.shape}")
        return leaves


def describe(task: Task, distribution: Any, **more: Any) -> dict[str, str]:
    """What tells one run from another, each as a short text."""
    symmetry = getattr(distribution, "symmetry", None)
    groups = "" if symmetry is None else f", groups {_digest_text(symmetry.blocks)}"
    return {
        **{name: str(value) for name, value in more.items()},
        "key": " ".join(map(str, np.asarray(jax.random.key_data(task.key)).tolist())),
        "distribution": f"{distribution!r}{groups}",
        "networks": " ".join(map(_digest_tree, task.models)),
        "metric": _digest_program(task.metric),
    }


def _stored(dtype: np.dtype) -> Any:
    """NumPy's format knows its own dtypes only, and not bfloat16."""
    return dtype if dtype.kind in "biufc" else np.dtype(f"u{dtype.itemsize}")


def _digest_text(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _digest_tree(tree: PyTree) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        digest.update(path_name(path).encode())
        _add(digest, leaf)
    return digest.hexdigest()[:16]


def _digest_program(metric: Metric) -> str:
    """Of the traced program, its constants and the tree that it returns."""
    # Names of functions may end in their addresses, which differ from run to run.
    text = re.sub(r" at 0x[0-9a-f]+", "", f"{metric.program} {metric.structure}")
    digest = hashlib.sha256(text.encode())
    for constant in all_constants(metric.program):
        _add(digest, constant)
    return digest.hexdigest()[:16]


def _add(digest: Any, leaf: Any) -> None:
    if jnp.issubdtype(dtype_of(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    digest.update(f"{array.dtype} {np.shape(leaf)}".encode())
    digest.update(array.tobytes())
