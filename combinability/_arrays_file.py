"""Arrays in a file that `numpy.savez` wrote, read without trust in what it claims."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed npz file, by name.

    Takes no more memory than the file has bytes, whatever its headers claim, and
    unpickles nothing.

    Raises:
        ValueError: if the file cannot be read, is damaged or of another format.
    """
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            claimed = sum(member.file_size for member in members)
            if claimed > path.stat().st_size:
                raise ValueError(
                    f"{claimed} bytes of arrays claimed in a file of "
                    f"{path.stat().st_size}"
                )
            return {
                member.filename.removesuffix(".npy"): _array(archive.read(member))
                for member in members
            }
    # A parser of damaged bytes may raise anything.
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


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
