"""Named arrays on disk: safetensors and NumPy archives, without pickles."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from benchmarks._arrays_file import read_arrays

_DTYPES = {
    "BOOL": np.bool_,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
}
_SUPPORTED = {np.dtype(dtype) for dtype in _DTYPES.values()}
_ZIP = b"PK\x03\x04"


class WeightsError(ValueError):
    """A file of weights that is missing, damaged, or of another network."""


def read(path: Path, limit: int) -> dict[str, np.ndarray]:
    """Read all arrays of a safetensors file or of a NumPy archive.

    Takes no more memory than a few times the limit, whatever the file claims.

    Args:
      path: the file.
      limit: bytes that its arrays may take.

    Raises:
      WeightsError: the file cannot be read, is damaged, is a pickle, holds more than
        the limit, or numbers of a kind that JAX does not have.
    """
    try:
        if path.exists() and not path.is_file():
            raise WeightsError(f"cannot read {path}: it is not a regular file")
        with open(path, "rb") as file:
            beginning = file.read(128)
        zipped = beginning.startswith(_ZIP)
        if _is_pickle(beginning):
            raise _pickled(path)
        if path.stat().st_size > limit:
            raise WeightsError(
                f"{path} has {path.stat().st_size} bytes, expected at most {limit}: it "
                "is damaged, or holds another network"
            )
        return _read_numpy(path, limit) if zipped else _read_safetensors(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


def safetensors_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays in the safetensors format, each in its own dtype.

    Raises:
      ValueError: the format does not have an array's dtype.
    """
    for name, array in arrays.items():
        if array.dtype not in _SUPPORTED:
            raise ValueError(
                f"{name!r} has dtype {array.dtype}, which safetensors do not have: "
                f"expected one of {', '.join(sorted(map(str, _SUPPORTED)))}"
            )
    # The format's writer takes bytes from memory as they lie there.
    return safetensors.numpy.save(
        {n: np.require(a, None, "C") for n, a in arrays.items()}
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    content = path.read_bytes()
    try:
        stored = dict(safetensors.deserialize(content))
        _check_names(content)
        for name, tensor in stored.items():
            if tensor["dtype"] not in _DTYPES:
                raise _of_another_kind(path, name, tensor["dtype"])
        return {name: _array(**tensor) for name, tensor in stored.items()}
    except WeightsError:
        raise
    # A parser of damaged bytes may raise anything.
    except Exception as error:
        raise WeightsError(
            f"{path} is damaged, or neither a safetensors file nor a NumPy archive: "
            f"{error}"
        ) from error


def _check_names(content: bytes) -> None:
    """Refuses a header that names a thing twice, where the format's parser does not."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        for name, following in itertools.pairwise(sorted(name for name, _ in pairs)):
            if name == following:
                raise ValueError(f"two entries named {name!r}")

    length = int.from_bytes(content[:8], "little")
    json.loads(content[8 : 8 + length], object_pairs_hook=once)


def _array(dtype: str, shape: list[int], data: bytearray) -> np.ndarray:
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


def _read_numpy(path: Path, limit: int) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path, limit)
    except ValueError as error:
        raise WeightsError(
            f"{path} is damaged as a NumPy archive, or holds another network: {error}"
        ) from error
    for name, array in arrays.items():
        if array.dtype not in _SUPPORTED:
            raise _of_another_kind(path, name, array.dtype)
    return arrays


def _of_another_kind(path: Path, name: str, dtype: Any) -> WeightsError:
    return WeightsError(
        f"{path}: {name!r} has dtype {dtype}, expected one of {', '.join(_DTYPES)}"
    )


def _is_pickle(beginning: bytes) -> bool:
    """Whether a file that begins so is a pickle, or PyTorch's zip file with one."""
    if beginning.startswith(_ZIP):
        return b"/data.pkl" in beginning
    # So may the length of a safetensors header begin, before its brace.
    return beginning.startswith(b"\x80") and beginning[8:9] != b"{"


def _pickled(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is a pickle, which can run code when it is read: write the state dict "
        "with safetensors.torch.save_file, or as arrays with numpy.savez"
    )
