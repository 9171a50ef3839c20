"""Named arrays on disk: safetensors and NumPy archives, without pickles."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

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
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


class WeightsError(ValueError):
    """A file of weights that is missing, damaged, or of another network."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a safetensors file or of a NumPy archive.

    Raises:
      WeightsError: the file cannot be read, is damaged, is a pickle, or holds numbers
        of a kind that JAX does not have.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    if content.startswith(_ZIP):
        return _read_numpy(path, content)
    return _read_safetensors(path, content)


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


def _read_safetensors(path: Path, content: bytes) -> dict[str, np.ndarray]:
    if content.startswith(_PICKLE):
        raise _pickled(path)
    try:
        stored = dict(safetensors.deserialize(content))
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path} is damaged, or neither a safetensors file nor a NumPy archive: "
            f"{error}"
        ) from error
    for name, tensor in stored.items():
        if tensor["dtype"] not in _DTYPES:
            raise WeightsError(
                f"{path}: {name!r} has dtype {tensor['dtype']}, expected one of "
                f"{', '.join(_DTYPES)}"
            )
    return {
        name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(
            tensor["shape"]
        )
        for name, tensor in stored.items()
    }


def _read_numpy(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if any(name.endswith("data.pkl") for name in archive.files):
                raise _pickled(path)
            arrays = dict(archive)
    except WeightsError:
        raise
    except (
        OSError,
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise WeightsError(f"{path} is damaged as a NumPy archive: {error}") from error
    for name, array in arrays.items():
        # An entry that is no array comes as its bytes.
        dtype = getattr(array, "dtype", type(array))
        if dtype not in _SUPPORTED:
            raise WeightsError(f"{path}: {name!r} has dtype {dtype}, expected numbers")
    return arrays


def _pickled(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is a pickle, which can run code when it is read: write the state dict "
        "with safetensors.torch.save_file, or as arrays with numpy.savez"
    )
