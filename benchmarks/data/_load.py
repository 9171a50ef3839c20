"""Loading a dataset by name."""

import os
from collections.abc import Callable
from pathlib import Path

import pooch

from .._names import lookup
from ._cifar import CIFAR10, CIFAR100
from ._dataset import DataError, Dataset
from ._digits import load_digits
from ._mnist import FASHION_MNIST, MNIST
from ._text import TINY_SHAKESPEARE

_LOADERS: dict[str, Callable[[Path, bool], Dataset]] = {
    "digits": load_digits,
    "mnist": MNIST.load,
    "fashion_mnist": FASHION_MNIST.load,
    "cifar10": CIFAR10.load,
    "cifar100": CIFAR100.load,
    "tiny_shakespeare": TINY_SHAKESPEARE.load,
}

NAMES = tuple(_LOADERS)


def load(
    name: str,
    directory: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
) -> Dataset:
    """Load a dataset, downloading its files if they are not in the data directory.

    Images are scaled to [0, 1] and standardised per channel. Validation examples are
    a fixed random part of the published training data. Text is cut into windows of 65
    characters that do not overlap: 64 inputs, and the character after each as target.

    | name | files in the data directory | train / validation / test |
    |---|---|---|
    | `digits` | none: scikit-learn ships it | 1,197 / 300 / 300 |
    | `mnist` | `mnist/*-ubyte.gz` (IDX) | 50,000 / 10,000 / 10,000 |
    | `fashion_mnist` | `fashion_mnist/*-ubyte.gz` (IDX) | 50,000 / 10,000 / 10,000 |
    | `cifar10` | `cifar-10-batches-bin/*.bin` | 45,000 / 5,000 / 10,000 |
    | `cifar100` | `cifar-100-binary/*.bin` | 45,000 / 5,000 / 10,000 |
    | `tiny_shakespeare` | `tiny_shakespeare/input.txt` | 15,443 / 858 / 858 windows |

    The CIFAR folders may lie in `cifar10/` and `cifar100/`, where downloads go.

    Args:
      name: one of `NAMES`.
      directory: the data directory; by default the one that the environment variable
        BENCHMARKS_DATA names, or else a cache directory of the user.
      download: whether missing files may be downloaded.

    Returns:
      The dataset, as NumPy arrays.

    Raises:
      ValueError: the name is unknown.
      DataError: a file is missing, damaged, or could not be downloaded.

    Example:
      >>> digits = load("digits")
      >>> digits.train.inputs.shape, digits.validation.inputs.shape, digits.classes
      ((1197, 8, 8, 1), (300, 8, 8, 1), 10)
    """
    loader = lookup(_LOADERS, name, "dataset")
    return loader(_data_directory(directory), download)


def _data_directory(directory: str | os.PathLike[str] | None) -> Path:
    chosen = directory or os.environ.get("BENCHMARKS_DATA")
    path = Path(chosen or pooch.os_cache("rllc-benchmarks")).expanduser()
    if path.exists() and not path.is_dir():
        raise DataError(f"the data directory '{path}' is a file, expected a directory")
    return path
