"""The gzipped IDX format that MNIST and Fashion-MNIST come in."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ._dataset import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes.

    The format: two zero bytes, the type of the values (8: unsigned byte), the number
    of axes, the length of each axis as a big-endian 32-bit number, then the values in
    row-major order.

    Args:
      path: the file.
      shape: the shape it must have.

    Returns:
      A uint8 array of that shape.

    Raises:
      DataError: the file is not readable, not gzip, cut off, not IDX, or its values
        are of another type, shape or number.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database".
    """
    start = 4 + 4 * len(shape)
    size = start + math.prod(shape)
    # One byte more than there should be: enough to tell that a file is too long, and
    # reading past the end is what makes gzip compare its checksum.
    content = _decompress(path, size + 1)
    magic = bytes([0, 0, _UNSIGNED_BYTE, len(shape)])
    _require(
        path, "the first four bytes", content[:4].hex(" ") or "nothing", magic.hex(" ")
    )
    if len(content) >= start:
        found = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
        _require(path, "its shape", found, shape)
    length = f"more than {size}" if len(content) > size else len(content)
    _require(path, "the length in bytes, decompressed,", length, size)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _decompress(path: Path, limit: int) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(limit)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"'{path}' could not be decompressed ({error}): it is expected to be a "
            "complete gzip file. Remove it and load again."
        ) from error


def _require(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DataError(
            f"'{path}' is damaged or not the file that its name says: {what} should "
            f"be {expected}, not {found}. Remove it and load again."
        )
