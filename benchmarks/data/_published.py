"""Published datasets: where they come from and what they hold."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.data._dataset import (
    DataError,
    Dataset,
    Split,
    Statistics,
    hold_out,
    image_dataset,
)
from benchmarks.data._files import (
    PIXELS,
    Remote,
    check_hash,
    check_labels,
    extract,
    fetch,
    read_cifar,
    read_idx,
)

CONTEXT = 64


def load_digits(directory: Path, download: bool) -> Dataset:
    """Return the 1,797 digits (8×8 pixels) that scikit-learn ships."""
    del directory, download
    from sklearn import datasets  # takes long to import

    images, labels = datasets.load_digits(return_X_y=True)
    images = np.reshape(images, (-1, 8, 8, 1))
    kept, held_out = hold_out(len(images), 300)
    return image_dataset(
        "digits",
        (images[kept], labels[kept]),
        (images[held_out], labels[held_out]),
        validation=300,
        classes=10,
        statistics=Statistics(mean=(0.3046,), deviation=(0.3755,)),
        white=16,
    )


@dataclasses.dataclass(frozen=True)
class IdxImages:
    """28×28 grey images of ten classes in four IDX files."""

    name: str
    url: str
    sha256: Mapping[str, str]
    statistics: Statistics
    train: int = 60_000
    test: int = 10_000
    validation: int = 10_000

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the files in a folder, downloading first what is not there."""
        folder = directory / self.name
        for file, sha256 in self.sha256.items():
            fetch(Remote(self.url + file, sha256), folder / file, download)

        def read(prefix: str, count: int) -> tuple[np.ndarray, np.ndarray]:
            path = folder / f"{prefix}-images-idx3-ubyte.gz"
            images = read_idx(path, (count, 28, 28))
            path = folder / f"{prefix}-labels-idx1-ubyte.gz"
            labels = read_idx(path, (count,))
            check_labels(path, labels, (10,))
            return images[..., np.newaxis], labels

        return image_dataset(
            self.name,
            read("train", self.train),
            read("t10k", self.test),
            validation=self.validation,
            classes=10,
            statistics=self.statistics,
        )


@dataclasses.dataclass(frozen=True)
class Cifar:
    """32×32 colour images in the binary CIFAR layout.

    Attributes:
      name: The dataset's name.
      folder: The folder inside the archive.
      train: The number of images in each training file.
      test: The same for the test file.
      label_classes: The number of classes of each label byte in front of an image; the
        last one is the label used.
      archive: The published archive.
      statistics: Of the training images.
      validation: The number of training images held out.
    """

    name: str
    folder: str
    train: Mapping[str, int]
    test: Mapping[str, int]
    label_classes: tuple[int, ...]
    archive: Remote
    statistics: Statistics
    validation: int = 5_000

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the files in a folder, downloading first what is not there."""
        folder = self._find(directory, download)

        def read(files: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
            parts = [
                read_cifar(folder / file, count, self.label_classes)
                for file, count in files.items()
            ]
            images, labels = zip(*parts, strict=True)
            return np.concatenate(images), np.concatenate(labels)

        return image_dataset(
            self.name,
            read(self.train),
            read(self.test),
            validation=self.validation,
            classes=self.label_classes[-1],
            statistics=self.statistics,
        )

    def _find(self, directory: Path, download: bool) -> Path:
        if (directory / self.folder).is_dir():
            return directory / self.folder
        folder = directory / self.name / self.folder
        width = len(self.label_classes) + PIXELS
        files = {f: count * width for f, count in {**self.train, **self.test}.items()}
        missing = [file for file in files if not (folder / file).exists()]
        if missing:
            archive = directory / self.name / self.archive.url.rpartition("/")[2]
            try:
                fetch(self.archive, archive, download)
            except DataError as error:
                raise DataError(
                    f"'{self.folder}/{missing[0]}' is neither in '{directory}' nor in "
                    f"'{directory / self.name}', and the archive to unpack it from: "
                    f"{error}"
                ) from error
            check_hash(archive, self.archive.sha256)
            extract(archive, self.folder, files, folder)
        return folder


@dataclasses.dataclass(frozen=True)
class Text:
    """A text, read character by character in windows that do not overlap."""

    name: str
    remote: Remote

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the text in a folder, downloading it first if it is not there."""
        path = directory / self.name / "input.txt"
        fetch(self.remote, path, download)
        # Text has no structure that would show damage, so its hash is compared.
        check_hash(path, self.remote.sha256)
        # It is ASCII: a byte is a character. Ids follow the sorted vocabulary.
        vocabulary, ids = np.unique(np.fromfile(path, np.uint8), return_inverse=True)
        # Contiguous parts: neighbouring windows must not leak into another part.
        ends = [len(ids) * 90 // 100, len(ids) * 95 // 100]
        train, validation, test = (_windows(part) for part in np.split(ids, ends))
        return Dataset(self.name, train, validation, test, len(vocabulary), "text")


def _windows(ids: np.ndarray) -> Split:
    count = len(ids) // (CONTEXT + 1)
    windows = ids[: count * (CONTEXT + 1)].reshape(count, -1).astype(np.int32)
    return Split(inputs=windows[:, :-1], targets=windows[:, 1:])


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

CIFAR10 = Cifar(
    name="cifar10",
    folder="cifar-10-batches-bin",
    train={f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
    test={"test_batch.bin": 10_000},
    label_classes=(10,),
    archive=Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    # The deviation is the mean over images of each image's own, smaller than that of
    # all pixels: most published CIFAR-10 networks were trained on inputs so scaled.
    statistics=Statistics(
        mean=(0.4914, 0.4822, 0.4465), deviation=(0.2023, 0.1994, 0.2010)
    ),
)

CIFAR100 = Cifar(
    name="cifar100",
    folder="cifar-100-binary",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    # The superclass comes first, the class itself second.
    label_classes=(20, 100),
    archive=Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    statistics=Statistics(
        mean=(0.5071, 0.4867, 0.4408), deviation=(0.2675, 0.2565, 0.2761)
    ),
)

TINY_SHAKESPEARE = Text(
    name="tiny_shakespeare",
    remote=Remote(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
)
