"""Arrays in a file that `numpy.savez` wrote, read without trust in what it claims."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

# What NumPy writes. Of these the reader unfolds no more than it is asked for.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_arrays(path: Path, limit: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file, by name.

    Takes no more memory than a few times the limit, whatever the file's headers claim,
    and unpickles nothing.

    Args:
        path: the file.
        limit: bytes that its arrays may take; by default as many as the file has, which
            is enough for arrays that are not compressed.

    Raises:
        ValueError: if the file cannot be read, is damaged or of another format, or
            claims more than the limit.
    """
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with zipfile.ZipFile(path) as archive:
            members = _by_name(archive.infolist())
            most = path.stat().st_size if limit is None else limit
            claimed = sum(member.file_size for member in members.values())
            if claimed > most:
                raise ValueError(
                    f"{claimed} bytes of arrays claimed, expected at most {most}"
                )
            return {n: _read(archive, member) for n, member in members.items()}
    # A parser of damaged bytes may raise anything.
    except Exception as error:
        raise ValueError(_said(error)) from error


def _by_name(members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    named = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in named:
            raise ValueError(f"two arrays named {name!r}")
        named[name] = member
    return named


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        if member.compress_type not in _COMPRESSIONS:
            raise ValueError(f"compression {member.compress_type} of a zip file")
        with archive.open(member) as file:
            # Asked for no length, it would unfold more than the member claims.
            return _array(file.read(member.file_size))
    except Exception as error:
        raise ValueError(f"{member.filename!r}: {_said(error)}") from error


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"npy format {version}, expected (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("an array of pickled objects, expected numbers")
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if expected != found:
        raise ValueError(
            f"an array of shape {shape} and dtype {dtype} takes {expected} bytes, but "
            f"{found} are there"
        )
    flat = np.frombuffer(content, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy(order="K")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
