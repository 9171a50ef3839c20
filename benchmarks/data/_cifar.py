"""CIFAR-10 and CIFAR-100: 32×32 colour images, in the binary layout."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ._dataset import DataError, Dataset, Statistics, image_dataset
from ._remote import Remote, check_hash, check_regular, extract, fetch

_PIXELS = 3 * 32 * 32


@dataclasses.dataclass(frozen=True)
class Cifar:
    """Where a CIFAR dataset comes from and what it holds.

    Attributes:
      name: the dataset's name.
      folder: the folder inside the archive.
      train: the number of images in each training file.
      test: the same for the test file.
      label_classes: the number of classes of each label byte in front of an image;
        the last one is the label used.
      archive: the published archive.
      statistics: of the training images.
      validation: the number of training images held out.
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
        """Read the files in `directory`, downloading first what is not there."""
        folder = self._find(directory, download)
        return image_dataset(
            self.name,
            self._read_all(folder, self.train),
            self._read_all(folder, self.test),
            validation=self.validation,
            classes=self.label_classes[-1],
            statistics=self.statistics,
        )

    def _find(self, directory: Path, download: bool) -> Path:
        if (directory / self.folder).is_dir():
            return directory / self.folder
        folder = directory / self.name / self.folder
        sizes = {
            file: count * (len(self.label_classes) + _PIXELS)
            for file, count in {**self.train, **self.test}.items()
        }
        missing = [file for file in sizes if not (folder / file).exists()]
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
            extract(archive, self.folder, sizes, folder)
        return folder

    def _read_all(
        self, folder: Path, files: Mapping[str, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        images, labels = zip(
            *(
                read_cifar(folder / file, count, self.label_classes)
                for file, count in files.items()
            ),
            strict=True,
        )
        return np.concatenate(images), np.concatenate(labels)


def read_cifar(
    path: Path, count: int, label_classes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the binary CIFAR layout.

    A record is its label bytes, then the red, green and blue plane of the image, each
    in row-major order.

    Args:
      path: the file.
      count: the number of records it must hold.
      label_classes: the number of classes of each label byte.

    Returns:
      Images, uint8 (count, 32, 32, 3), and the last label of each, uint8 (count,).

    Raises:
      DataError: the file cannot be read, has another length, or holds a label that is
        out of range.

    Source: A. Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
    """
    width = len(label_classes) + _PIXELS
    try:
        size = path.stat().st_size
        check_regular(path)
        # One more than there should be: enough to tell that a file is too long.
        content = np.fromfile(path, np.uint8, count=count * width + 1)
    except OSError as error:
        raise DataError(
            f"'{path}' could not be read ({error}): expected {count} images of "
            f"{width} bytes in the binary CIFAR layout. Put it there, or remove the "
            "folder and load again."
        ) from error
    if content.size != count * width:
        raise DataError(
            f"'{path}' has {size} bytes, expected {count * width} ({count} "
            f"images of {width} bytes): it is damaged. Remove it and load again."
        )
    records = content.reshape(count, width)
    labels = records[:, : len(label_classes)]
    if (labels >= np.asarray(label_classes)).any():
        raise DataError(
            f"'{path}' is damaged: its labels go up to {labels.max(axis=0).tolist()}, "
            f"expected below {list(label_classes)}. Remove it and load again."
        )
    planes = records[:, len(label_classes) :].reshape(count, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels[:, -1]


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
