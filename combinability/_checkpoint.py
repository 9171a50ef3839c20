"""A file of finished samples, and what identifies the run that it belongs to."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability._checks import path_name
from combinability._combine import dtype_of
from combinability._jaxpr import all_constants


class _AnotherRun(ValueError):
    """The file belongs to another run."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file of the first samples of a run.

    Attributes:
        path: the file.
        run: what identifies the run, as `describe` returns it.
        outputs: shapes and dtypes of the metric's leaves for one sample.
    """

    path: Path
    run: Mapping[str, str]
    outputs: Sequence[jax.ShapeDtypeStruct]

    def save(self, values: Sequence[np.ndarray]) -> None:
        """Replace the file by these samples, as a whole.

        Raises:
            OSError: if it cannot be written; the file is then as it was before.
        """
        arrays: dict[str, Any] = {
            f"leaf_{number}": leaf.view(_stored(leaf.dtype))
            for number, leaf in enumerate(values)
        }
        arrays["run"] = np.array(json.dumps(dict(self.run)))
        partial = self.path.with_name(f"{self.path.name}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(partial, "wb") as file:
                    np.savez(file, **arrays)
                os.replace(partial, self.path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            message = f"checkpoint: cannot be written ({error.strerror})"
            raise OSError(error.errno, message, str(self.path)) from error

    def load(self) -> list[np.ndarray] | None:
        """Return the saved samples, or None if there is no file.

        Raises:
            ValueError: if the file is damaged or belongs to another run.
        """
        if not self.path.exists():
            return None
        try:
            if not self.path.is_file():
                raise ValueError("not a regular file")
            with np.load(self.path, allow_pickle=False) as arrays:
                self._check_run(json.loads(str(arrays["run"])))
                leaves = [
                    self._leaf(arrays[f"leaf_{number}"], output)
                    for number, output in enumerate(self.outputs)
                ]
            if len({len(leaf) for leaf in leaves}) > 1:
                raise ValueError("arrays of different numbers of samples")
        except _AnotherRun:
            raise
        # A reader of damaged bytes may raise anything.
        except Exception as error:
            raise ValueError(
                f"checkpoint: {self.path} is damaged or holds no samples ({error}); "
                "delete it to start again"
            ) from error
        return leaves

    def _check_run(self, stored: Mapping[str, str]) -> None:
        differing = [
            f"{name} was {stored.get(name)}, now {self.run.get(name)}"
            for name in sorted(stored.keys() | self.run.keys())
            if stored.get(name) != self.run.get(name)
        ]
        if differing:
            raise _AnotherRun(
                f"checkpoint: {self.path} belongs to another run: "
                f"{'; '.join(differing)}; delete it, or give another path"
            )

    def _leaf(self, leaf: np.ndarray, output: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.dtype != _stored(output.dtype) or leaf.shape[1:] != output.shape:
            raise ValueError(f"an array of {leaf.dtype} of shape {leaf.shape}")
        return leaf.view(output.dtype)


def describe(part, key, distribution, models, args, metric) -> dict[str, str]:
    """Return what identifies a run, as short texts.

    Args:
        part: the numbers of the samples.
        key: their key.
        distribution: of the coefficients, identified by its `repr`.
        models: the networks that are combined.
        args: further arguments of the metric.
        metric: the traced metric.
    """
    symmetry = getattr(distribution, "symmetry", None)
    groups = "" if symmetry is None else f", groups {_digest([repr(symmetry.blocks)])}"
    return {
        "samples": f"{part.start} to {part.stop}",
        "key": " ".join(map(str, np.asarray(jax.random.key_data(key)).tolist())),
        "distribution": f"{distribution!r}{groups}",
        "networks": " ".join(_digest(_tree(model)) for model in models),
        "args": _digest(_tree(args)),
        "metric": _digest(_program(metric)),
    }


def _stored(dtype: np.dtype) -> np.dtype:
    """NumPy's format has NumPy's own dtypes only, without bfloat16."""
    return dtype if dtype.kind in "biufc" else np.dtype(f"u{dtype.itemsize}")


def _digest(parts: Iterator[Any] | list[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
            continue
        if jnp.issubdtype(dtype_of(part), jax.dtypes.prng_key):
            part = jax.random.key_data(part)
        array = np.ascontiguousarray(part)
        digest.update(f"{array.dtype} {np.shape(part)}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _tree(tree: PyTree) -> Iterator[Any]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield path_name(path)
        yield leaf


def _program(traced: Any) -> Iterator[Any]:
    """Yield the text of a traced program, and its constants at every depth."""
    # Names of functions may end in addresses, which differ from process to process.
    text = f"{traced.jaxpr} {jax.tree.structure(traced.out_info)}"
    yield re.sub(r" at 0x[0-9a-f]+", "", text)
    yield from all_constants(traced.jaxpr)
