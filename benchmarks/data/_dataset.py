"""What a loaded dataset is, and how images become one."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

# Fixed, so that every run everywhere validates on the same examples.
_SPLIT_SEED = 0


class DataError(ValueError):
    """A data file is missing, damaged, or could not be downloaded."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One part of a dataset.

    Attributes:
      inputs: images, float32 of shape (n, height, width, channels), standardised;
        or text, int32 character ids of shape (n, context).
      targets: int32, the classes (n,) of images; for text, the following
        character at each position (n, context).
    """

    inputs: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in three parts that share no example.

    Attributes:
      name: the name it was loaded by.
      train: what is trained on.
      validation: what choices are made on.
      test: what is reported.
      classes: the number of classes, or of distinct characters.
      kind: `"image"` or `"text"`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    kind: Literal["image", "text"]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]."""

    mean: Sequence[float]
    deviation: Sequence[float]


def image_dataset(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    validation: int,
    classes: int,
    statistics: Statistics,
    white: int = 255,
) -> Dataset:
    """Hold out validation examples and standardise.

    Args:
      name: the dataset's name.
      train: integer images (n, height, width, channels) and classes (n,).
      test: the same for the test part.
      validation: the number of training examples to hold out.
      classes: the number of classes.
      statistics: of the training images.
      white: the largest pixel value.
    """
    images, labels = train
    kept, held_out = hold_out(len(images), validation)

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(_standardise(images, statistics, white), labels.astype(np.int32))

    return Dataset(
        name=name,
        train=split(images[kept], labels[kept]),
        validation=split(images[held_out], labels[held_out]),
        test=split(*test),
        classes=classes,
        kind="image",
    )


def hold_out(total: int, held_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices kept and those held out, both ascending, always the same."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(total)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _standardise(images: np.ndarray, statistics: Statistics, white: int) -> np.ndarray:
    # In place: a float32 copy of CIFAR-10 is 600 MB, and one is enough.
    pixels = images.astype(np.float32)
    pixels /= white
    pixels -= np.asarray(statistics.mean, np.float32)
    pixels /= np.asarray(statistics.deviation, np.float32)
    return pixels
