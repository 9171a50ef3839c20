"""Loading a dataset by name or file."""

import os
from collections.abc import Callable
from pathlib import Path

import pooch

from benchmarks._options import check_name
from benchmarks.data._dataset import DataError, Dataset
from benchmarks.data._own import read_own
from benchmarks.data._published import (
    CIFAR10,
    CIFAR100,
    FASHION_MNIST,
    MNIST,
    TINY_SHAKESPEARE,
    load_digits,
)

_LOADERS: dict[str, Callable[[Path, bool], Dataset]] = {
    "digits": load_digits,
    "mnist": MNIST.load,
    "fashion_mnist": FASHION_MNIST.load,
    "cifar10": CIFAR10.load,
    "cifar100": CIFAR100.load,
    "tiny_shakespeare": TINY_SHAKESPEARE.load,
}

NAMES = tuple(_LOADERS)

Folder = str | os.PathLike[str] | None


def load(name: str, directory: Folder = None, *, download: bool = True) -> Dataset:
    """Load a dataset, downloading its files if they are not in the data folder.

    Images are scaled to [0, 1] and standardised per channel. Validation examples are
    a fixed random part of the published training data. Text is cut into windows of 65
    characters that do not overlap: 64 inputs, and the character after each as target.

    | name | files in the data folder | train / validation / test |
    |---|---|---|
    | `digits` | none: scikit-learn ships it | 1,197 / 300 / 300 |
    | `mnist` | `mnist/*-ubyte.gz` (IDX) | 50,000 / 10,000 / 10,000 |
    | `fashion_mnist` | `fashion_mnist/*-ubyte.gz` (IDX) | 50,000 / 10,000 / 10,000 |
    | `cifar10` | `cifar-10-batches-bin/*.bin` | 45,000 / 5,000 / 10,000 |
    | `cifar100` | `cifar-100-binary/*.bin` | 45,000 / 5,000 / 10,000 |
    | `tiny_shakespeare` | `tiny_shakespeare/input.txt` | 15,443 / 858 / 858 windows |
    | `PATH.npz` | your own arrays, see benchmarks/README.md | 15 % each held out |

    The CIFAR folders may be in `cifar10/` and `cifar100/`, where downloads go.

    Args:
        name: one of `NAMES`, or a `.npz` file, looked for from here and in the data
            folder.
        directory: the data folder; by default the one that the environment variable
            BENCHMARKS_DATA names, or else a cache folder of the user.
        download: whether missing files may be downloaded.

    Raises:
        ValueError: if the name is unknown.
        DataError: if a file is missing, damaged, or could not be downloaded.

    Example:
        >>> digits = load("digits")
        >>> digits.train.inputs.shape, digits.validation.inputs.shape, digits.classes
        ((1197, 8, 8, 1), (300, 8, 8, 1), 10)
    """
    check(name, directory)
    if name not in _LOADERS:
        return read_own(find_file("dataset", name, directory))
    folder = _named(directory) or pooch.os_cache("rllc-benchmarks")
    return _LOADERS[name](Path(folder), download)


def check(name: str, directory: Folder = None) -> None:
    """Raise early if the name is unknown, or a file or folder is missing."""
    if directory is not None and not Path(directory).expanduser().is_dir():
        raise DataError(f"data: there is no folder '{directory}'")
    if name.endswith(".npz"):
        find_file("dataset", name, directory)
    else:
        check_name("dataset", name, NAMES, ", or a .npz file")


def find_file(option: str, name: str, directory: Folder = None) -> Path:
    """Return a file or folder that is found from here or in the data folder."""
    tried = places(name, directory)
    for place in tried:
        if place.exists():
            return place
    raise DataError(
        f"{option}: there is no file {' or '.join(f'{str(p)!r}' for p in tried)}; "
        "give a path from here or from the data folder"
    )


def places(name: str, directory: Folder = None) -> list[Path]:
    """Return where a file is looked for: from here, then in the data folder."""
    chosen = _named(directory)
    return [Path(name).expanduser(), *([chosen / name] if chosen else [])]


def _named(directory: Folder) -> Path | None:
    """The data folder that is asked for, if any."""
    chosen = directory or os.environ.get("BENCHMARKS_DATA")
    return Path(chosen).expanduser() if chosen else None
