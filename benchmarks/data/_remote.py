"""Downloading a published file with a checked hash, and unpacking an archive."""

import contextlib
import dataclasses
import os
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pooch

from ._dataset import DataError


@dataclasses.dataclass(frozen=True)
class Remote:
    """A published file: its address and the SHA-256 of its content."""

    url: str
    sha256: str


def fetch(remote: Remote, path: Path, download: bool) -> None:
    """Make sure that `path` is there, downloading it if need be.

    A file that is already there is left alone and its hash is not compared: the same
    data compressed again is as good. Its content is checked by whoever reads it.

    Args:
      remote: where to get the file.
      path: where it belongs.
      download: whether it may be downloaded.

    Raises:
      DataError: the file is not there, and was not allowed to be downloaded, could
        not be, or came with another hash; nothing is left behind. Or something else
        is there: a folder, a pipe, a device.
    """
    if path.exists():
        check_regular(path)
        return
    if not download:
        raise DataError(_missing(remote, path, "and download=False"))
    try:
        pooch.retrieve(
            remote.url, f"sha256:{remote.sha256}", fname=path.name, path=path.parent
        )
    except (OSError, ValueError) as error:
        # An empty folder would look as if there had been data.
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        reason = f"and could not be downloaded ({error})"
        raise DataError(_missing(remote, path, reason)) from error


def check_regular(path: Path) -> None:
    """Refuses what has no end, or none that is known before it is read.

    Raises:
      DataError: `path` is not a regular file.
    """
    if not path.is_file():
        raise DataError(
            f"'{path}' is not a regular file, nor a link to one. Remove it and load "
            "again."
        )


def _missing(remote: Remote, path: Path, reason: str) -> str:
    root = path.parent.parent
    there = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    what = "is a link to what is not there" if path.is_symlink() else "is not there"
    return (
        f"'{path}' {what}, {reason}. Get it from {remote.url} (SHA-256 "
        f"{remote.sha256}) and put it there, or name the directory that has "
        f"'{path.parent.name}' in it by the argument `directory` or the environment "
        f"variable BENCHMARKS_DATA. '{root}' holds: {', '.join(there) or 'nothing'}."
    )


def check_hash(path: Path, sha256: str) -> None:
    """Refuse a file that does not have the published SHA-256.

    Raises:
      DataError: the file cannot be read or has another hash.
    """
    try:
        found = pooch.file_hash(str(path))
    except OSError as error:
        raise DataError(f"'{path}' could not be read ({error})") from error
    if found != sha256:
        raise DataError(
            f"'{path}' ({path.stat().st_size} bytes) is damaged or another file: its "
            f"SHA-256 should be {sha256}, not {found}. Remove it and load again."
        )


def extract(archive: Path, inside: str, sizes: Mapping[str, int], folder: Path) -> None:
    """Copy expected files out of a gzipped tar archive, and nothing else.

    No path of the archive is ever used as a path on disk: a member is either one of
    the expected regular files or it is passed over.

    Args:
      archive: the archive.
      inside: the folder in it that holds the files.
      sizes: the name and the size in bytes of each file.
      folder: where they go.

    Raises:
      DataError: the archive is damaged, a file is not in it or has another size, or
        `folder` cannot be written to.
    """
    expected = {f"{inside}/{file}": file for file in sizes}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.name in expected and member.isfile():
                    file = expected.pop(member.name)
                    _check_size(archive, member, sizes[file])
                    _copy(tar, member, folder / file)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"'{archive}' could not be unpacked into '{folder}' ({error}). If it is "
            "damaged, remove it and load again."
        ) from error
    if expected:
        raise DataError(
            f"'{archive}' does not hold {', '.join(expected)}: it is not the archive "
            "that its name says. Remove it and load again."
        )


def _check_size(archive: Path, member: tarfile.TarInfo, size: int) -> None:
    if member.size != size:
        raise DataError(
            f"'{archive}' is not the archive that its name says: {member.name} in it "
            f"has {member.size} bytes, expected {size}. Remove it and load again."
        )


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # The member is a regular file.
    # Written beside and moved into place: an interrupted copy never looks finished.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with source, open(partial, "wb") as target:
        shutil.copyfileobj(source, target)
    os.replace(partial, path)
