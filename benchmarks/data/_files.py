"""Files of data: downloading with a checked hash, unpacking, reading layouts."""

import contextlib
import dataclasses
import gzip
import math
import os
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pooch

from benchmarks.data._dataset import DataError

PIXELS = 3 * 32 * 32


@dataclasses.dataclass(frozen=True)
class Remote:
    """A published file: its address and the SHA-256 of its content."""

    url: str
    sha256: str


def fetch(remote: Remote, path: Path, download: bool) -> None:
    """Make sure that a file exists, downloading it if need be.

    The hash of a file that exists is not compared: the same data compressed again is as
    good, and readers check the content.

    Raises:
      DataError: If it does not exist and may or could not be downloaded.
    """
    if path.is_file():
        return
    reason = "and downloads are off"
    if download:
        try:
            known_hash = f"sha256:{remote.sha256}"
            pooch.retrieve(remote.url, known_hash, fname=path.name, path=path.parent)
            return
        except (OSError, ValueError) as error:
            # An empty folder would look as if there had been data.
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            reason = f"and could not be downloaded ({error})"
    root = path.parent.parent
    there = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    raise DataError(
        f"'{path}' is not there, {reason}. Get it from {remote.url} (SHA-256 "
        f"{remote.sha256}) and put it there, or name the folder that has "
        f"'{path.parent.name}' in it by --data or the environment variable "
        f"BENCHMARKS_DATA. '{root}' holds: {', '.join(there) or 'nothing'}."
    )


def check_hash(path: Path, sha256: str) -> None:
    """Raise if a file does not have the published SHA-256."""
    found = pooch.file_hash(str(path))
    if found != sha256:
        raise DataError(
            f"'{path}' ({path.stat().st_size} bytes) is damaged or another file: "
            f"expected SHA-256 {sha256}, got {found}. Remove it and load again."
        )


def extract(archive: Path, inside: str, files: Mapping[str, int], folder: Path) -> None:
    """Copy the named files out of a folder of a gzipped tar archive.

    Raises:
      DataError: If the archive is damaged or lacks a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r:gz") as tar:
            for file in files:
                source = tar.extractfile(f"{inside}/{file}")
                if source is None:
                    raise KeyError(f"{file} is not a regular file")
                # Moved into place: an interrupted copy never looks finished.
                partial = folder / f".{file}.{os.getpid()}"
                with source, open(partial, "wb") as target:
                    shutil.copyfileobj(source, target)
                os.replace(partial, folder / file)
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"'{archive}' could not be unpacked into '{folder}' ({error}). If it is "
            "damaged, remove it and load again."
        ) from error


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes.

    The format: two zero bytes, the type of the values (8: unsigned byte), the number
    of axes, the length of each axis as a big-endian 32-bit number, then the values in
    row-major order.

    Args:
      path: The file.
      shape: The expected shape.

    Raises:
      DataError: If it cannot be read, or is of another type or shape.

    References:
      LeCun, Cortes, Burges, "The MNIST database".
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"'{path}' could not be decompressed ({error}). Remove it and load again."
        ) from error
    size = len(header) + math.prod(shape)
    if not content.startswith(header) or len(content) != size:
        found = np.frombuffer(content[4 : len(header)], ">u4").tolist()
        raise DataError(
            f"'{path}' is damaged or not the file that its name says: expected an IDX "
            f"file of bytes of shape {list(shape)}, {size} bytes in all, got shape "
            f"{found} and {len(content)} bytes. Remove it and load again."
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def read_cifar(
    path: Path, count: int, label_classes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the binary CIFAR layout.

    A record is its label bytes, then the red, green and blue plane of the image, each
    in row-major order.

    Args:
      path: The file.
      count: The number of records it must hold.
      label_classes: The number of classes of each label byte.

    Returns:
      Images, uint8 (count, 32, 32, 3), and the last label of each, uint8 (count,).

    Raises:
      DataError: If it cannot be read, has another length, or a label is out of range.

    References:
      Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
    """
    width = len(label_classes) + PIXELS
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"'{path}' could not be read ({error})") from error
    if content.size != count * width:
        raise DataError(
            f"'{path}' is damaged: expected {count * width} bytes ({count} images of "
            f"{width}), got {content.size}. Remove it and load again."
        )
    records = content.reshape(count, width)
    labels = records[:, : len(label_classes)]
    check_labels(path, labels, label_classes)
    planes = records[:, len(label_classes) :].reshape(count, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels[:, -1]


def check_labels(path: Path, labels: np.ndarray, classes: tuple[int, ...]) -> None:
    """Raise if a label is out of range."""
    largest = np.atleast_1d(labels.max(axis=0))
    if (largest >= np.asarray(classes)).any():
        raise DataError(
            f"'{path}' is damaged: expected labels below {list(classes)}, got up to "
            f"{largest.tolist()}. Remove it and load again."
        )
