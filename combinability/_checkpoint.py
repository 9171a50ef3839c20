"""A file of finished samples, and what identifies the run that it belongs to."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability._checks import path_name
from combinability._combine import dtype_of
from combinability._jaxpr import all_constants


def save(path: Path, run: Mapping[str, str], values: Sequence[np.ndarray]) -> None:
    """Replace a file by the first samples of a run, as a whole."""
    arrays: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(values)}
    arrays["run"] = np.array(json.dumps(run))
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, run: Mapping[str, str], dtypes: Sequence[Any]) -> list[np.ndarray]:
    """Return the samples of a file, a leaf of the metric for each of the dtypes.

    Raises a ValueError if the file is damaged or belongs to another run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = json.loads(str(file["run"]))
            if stored == run:
                # NumPy reads bfloat16 and the like as bytes.
                return [
                    file[f"leaf_{number}"].view(dtype)
                    for number, dtype in enumerate(dtypes)
                ]
    # A reader of damaged bytes may raise anything.
    except Exception as error:
        raise ValueError(
            f"checkpoint: {path} is damaged or holds no samples ({error}); delete it "
            "to start again"
        ) from error
    differing = [
        f"{name} was {stored.get(name)}, now {run.get(name)}"
        for name in sorted(stored.keys() | run.keys())
        if stored.get(name) != run.get(name)
    ]
    raise ValueError(
        f"checkpoint: {path} belongs to another run: {'; '.join(differing)}; delete "
        "it, or give another path"
    )


def describe(part, key, distribution, models, args, traced) -> dict[str, str]:
    """Return what identifies a run, as short texts.

    That is the range of its samples, their key, the `repr` of the distribution, the
    networks, further arguments of the metric, and the traced metric.
    """
    symmetry = getattr(distribution, "symmetry", None)
    groups = "" if symmetry is None else f", groups {_digest(repr(symmetry.blocks))}"
    # Names of functions may end in addresses, which differ from process to process.
    program = re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr))
    program += str(jax.tree.structure(traced.out_info))
    return {
        "samples": f"{part.start} to {part.stop}",
        "key": " ".join(map(str, np.asarray(jax.random.key_data(key)).tolist())),
        "distribution": f"{distribution!r}{groups}",
        "networks": " ".join(map(_digest_tree, models)),
        "args": _digest_tree(args),
        "metric": _digest(program, all_constants(traced.jaxpr)),
    }


def _digest_tree(tree: PyTree) -> str:
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    paths = " ".join(path_name(path) for path, _ in found)
    return _digest(paths, (leaf for _, leaf in found))


def _digest(text: str, arrays: Iterable[Any] = ()) -> str:
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        if jnp.issubdtype(dtype_of(array), jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        array = np.asarray(array)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
