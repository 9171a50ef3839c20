"""Published datasets: where they come from and how their files are read."""

import dataclasses
import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pooch

from benchmarks.data._dataset import DataError, Dataset, Split, hold_out

CONTEXT = 64
_PIXELS = 3 * 32 * 32
Labelled = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Images:
    """How integer images become a dataset."""

    name: str  # the dataset's name
    classes: int  # the number of classes
    validation: int  # the number of training images held out
    mean: tuple[float, ...]  # of each channel of the training images, scaled to [0, 1]
    deviation: tuple[float, ...]  # of the same
    white: int = 255  # the largest pixel value

    def dataset(self, train: Labelled, test: Labelled) -> Dataset:
        """Hold out validation images, and standardise each channel."""
        images, labels = train
        kept, held_out = hold_out(len(images), self.validation)

        def split(images: np.ndarray, labels: np.ndarray) -> Split:
            # In place: a float32 copy of CIFAR-10 is 600 MB, and one is enough.
            pixels = images.astype(np.float32)
            pixels /= self.white
            pixels -= np.asarray(self.mean, np.float32)
            pixels /= np.asarray(self.deviation, np.float32)
            return Split(pixels, labels.astype(np.int32))

        return Dataset(
            name=self.name,
            train=split(images[kept], labels[kept]),
            validation=split(images[held_out], labels[held_out]),
            test=split(*test),
            classes=self.classes,
            kind="image",
        )


@dataclasses.dataclass(frozen=True)
class Remote:
    """A published file: its address and the SHA-256 of its content."""

    url: str
    sha256: str

    def fetch(self, path: Path, download: bool) -> None:
        """Make sure that a file exists, downloading it if need be.

        The hash of a file that exists is not compared: the same data compressed again
        is as good, and readers check the content.
        """
        if path.is_file():
            return
        reason = "and downloads are off"
        if download:
            known = f"sha256:{self.sha256}"
            try:
                pooch.retrieve(self.url, known, fname=path.name, path=path.parent)
                return
            except (OSError, ValueError) as error:
                reason = f"and could not be downloaded ({error})"
        raise DataError(
            f"'{path}' is not there, {reason}. Get it from {self.url} (SHA-256 "
            f"{self.sha256}) and put it there, or name the folder that has "
            f"'{path.parent.name}' in it by --data or the environment variable "
            "BENCHMARKS_DATA"
        )

    def check(self, path: Path) -> None:
        """Raise if a file does not have the published hash."""
        found = pooch.file_hash(str(path))
        if found != self.sha256:
            raise DataError(
                f"'{path}' ({path.stat().st_size} bytes) is damaged or another file: "
                f"expected SHA-256 {self.sha256}, got {found}. Remove it and load again"
            )


def load_digits(directory: Path, download: bool) -> Dataset:
    """Return the 1,797 digits (8×8 pixels) that scikit-learn ships."""
    del directory, download
    from sklearn import datasets  # takes long to import

    images, labels = datasets.load_digits(return_X_y=True)
    images = np.reshape(images, (-1, 8, 8, 1))
    kept, held_out = hold_out(len(images), 300)
    return Images("digits", 10, 300, (0.3046,), (0.3755,), white=16).dataset(
        (images[kept], labels[kept]), (images[held_out], labels[held_out])
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Idx(Images):
    """28×28 grey images of ten classes in four gzipped IDX files."""

    url: str  # the folder of the published files
    sha256: Mapping[str, str]  # by file
    train: int = 60_000
    test: int = 10_000

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the files in a folder, downloading first what is not there."""
        folder = directory / self.name
        for file, sha256 in self.sha256.items():
            Remote(self.url + file, sha256).fetch(folder / file, download)

        def read(prefix: str, count: int) -> Labelled:
            images = read_idx(
                folder / f"{prefix}-images-idx3-ubyte.gz", (count, 28, 28)
            )
            labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (count,))
            return images[..., np.newaxis], labels

        return self.dataset(read("train", self.train), read("t10k", self.test))


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes of the expected shape.

    The format: two zero bytes, the type of the values (8: unsigned byte), the number
    of axes, the length of each axis as a big-endian 32-bit number, then the values in
    row-major order (LeCun, Cortes, Burges, "The MNIST database").
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"'{path}' could not be decompressed ({error}). Remove it and load again"
        ) from error
    size = len(header) + math.prod(shape)
    if not content.startswith(header) or len(content) != size:
        raise DataError(
            f"'{path}' is damaged or not the file that its name says: expected an IDX "
            f"file of bytes of shape {list(shape)}, {size} bytes in all, got "
            f"{len(content)} bytes. Remove it and load again"
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cifar(Images):
    """32×32 colour images in the binary CIFAR layout."""

    archive: Remote  # the published archive
    folder: str  # the folder inside the archive
    train: Mapping[str, int]  # the number of images in each training file
    test: Mapping[str, int]  # in each test file
    labels: int = 1  # label bytes in front of an image, of which the last one is used

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the files in a folder, downloading first what is not there."""
        folder = directory / self.folder
        if not folder.is_dir():
            folder = directory / self.name / self.folder
            files = [*self.train, *self.test]
            if not all((folder / file).exists() for file in files):
                archive = directory / self.name / self.archive.url.rpartition("/")[2]
                self.archive.fetch(archive, download)
                self.archive.check(archive)
                members = [f"{self.folder}/{file}" for file in files]
                pooch.Untar(members, extract_dir=".")(str(archive), "update", None)

        def read(files: Mapping[str, int]) -> Labelled:
            parts = [read_cifar(folder / f, n, self.labels) for f, n in files.items()]
            images, labels = zip(*parts, strict=True)
            return np.concatenate(images), np.concatenate(labels)

        return self.dataset(read(self.train), read(self.test))


def read_cifar(path: Path, count: int, label_bytes: int) -> Labelled:
    """Read images, uint8 (count, 32, 32, 3), and the last label of each.

    A record is its label bytes, then the red, green and blue plane of the image, each
    in row-major order (Krizhevsky, "The CIFAR-10 dataset", section "Binary version").
    """
    width = label_bytes + _PIXELS
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"'{path}' could not be read ({error})") from error
    if content.size != count * width:
        raise DataError(
            f"'{path}' is damaged: expected {count * width} bytes ({count} images of "
            f"{width}), got {content.size}. Remove it and load again"
        )
    records = content.reshape(count, width)
    planes = records[:, label_bytes:].reshape(count, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return images, records[:, label_bytes - 1]


@dataclasses.dataclass(frozen=True)
class Text:
    """A text, read character by character in windows that do not overlap."""

    name: str
    remote: Remote

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the text in a folder, downloading it first if it is not there."""
        path = directory / self.name / "input.txt"
        self.remote.fetch(path, download)
        # Text has no structure that would show damage, so its hash is compared.
        self.remote.check(path)
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


MNIST = Idx(
    name="mnist",
    classes=10,
    validation=10_000,
    mean=(0.1307,),
    deviation=(0.3081,),
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
)

FASHION_MNIST = Idx(
    name="fashion_mnist",
    classes=10,
    validation=10_000,
    mean=(0.2860,),
    deviation=(0.3530,),
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
)

CIFAR10 = Cifar(
    name="cifar10",
    classes=10,
    validation=5_000,
    mean=(0.4914, 0.4822, 0.4465),
    # The mean over images of each image's own, smaller than that of all pixels: most
    # published CIFAR-10 networks were trained on inputs so scaled.
    deviation=(0.2023, 0.1994, 0.2010),
    archive=Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    folder="cifar-10-batches-bin",
    train={f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
    test={"test_batch.bin": 10_000},
)

CIFAR100 = Cifar(
    name="cifar100",
    classes=100,
    validation=5_000,
    mean=(0.5071, 0.4867, 0.4408),
    deviation=(0.2675, 0.2565, 0.2761),
    archive=Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    folder="cifar-100-binary",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    labels=2,  # the superclass, then the class itself
)

TINY_SHAKESPEARE = Text(
    name="tiny_shakespeare",
    remote=Remote(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
)
