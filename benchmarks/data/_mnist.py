"""MNIST and Fashion-MNIST: 28×28 grey images of ten classes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ._dataset import DataError, Dataset, Statistics, image_dataset
from ._idx import read_idx
from ._remote import Remote, fetch

_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class IdxImages:
    """Where a dataset in four IDX files comes from and what it holds."""

    name: str
    url: str
    sha256: Mapping[str, str]
    statistics: Statistics
    train: int = 60_000
    test: int = 10_000
    validation: int = 10_000

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the files in `directory`, downloading first what is not there."""
        folder = directory / self.name
        for file, sha256 in self.sha256.items():
            fetch(Remote(self.url + file, sha256), folder / file, download)
        return image_dataset(
            self.name,
            _read_pair(folder, "train", self.train),
            _read_pair(folder, "t10k", self.test),
            validation=self.validation,
            classes=_CLASSES,
            statistics=self.statistics,
        )


def _read_pair(folder: Path, prefix: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", (count, 28, 28))
    path = folder / f"{prefix}-labels-idx1-ubyte.gz"
    labels = read_idx(path, (count,))
    if labels.max() >= _CLASSES:
        raise DataError(
            f"'{path}' is damaged: it holds the class {labels.max()}, expected 0 to "
            f"{_CLASSES - 1}. Remove it and load again."
        )
    return images[..., np.newaxis], labels


MNIST = IdxImages(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    sha256={
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    },
    statistics=Statistics(mean=(0.1307,), deviation=(0.3081,)),
)

FASHION_MNIST = IdxImages(
    name="fashion_mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    sha256={
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    },
    statistics=Statistics(mean=(0.2860,), deviation=(0.3530,)),
)
