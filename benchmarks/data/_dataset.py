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
      inputs: Images, float32 of shape (n, height, width, channels); vectors, float32
        (n, features); or token ids, int32 (n, length).
      targets: Int32, a class (n,); for text, the next token at each position (n,
        length).
    """

    inputs: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in three parts that share no example.

    Attributes:
      name: The name it was loaded by.
      train: What is trained on.
      validation: What choices are made on.
      test: What is reported.
      classes: The number of classes, or of distinct tokens.
      kind: "image", "vector", "text" (a target for each token) or "tokens" (one class
        for all).
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    kind: Literal["image", "vector", "text", "tokens"]


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
      name: The dataset's name.
      train: Integer images (n, height, width, channels) and classes (n,).
      test: The same for the test part.
      validation: The number of training examples to hold out.
      classes: The number of classes.
      statistics: Of the training images.
      white: The largest pixel value.
    """
    images, labels = train
    kept, held_out = hold_out(len(images), validation)

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(standardise(images, statistics, white), labels.astype(np.int32))

    return Dataset(
        name=name,
        train=split(images[kept], labels[kept]),
        validation=split(images[held_out], labels[held_out]),
        test=split(*test),
        classes=classes,
        kind="image",
    )


def hold_out(
    total: int, held_out: int, seed: int = _SPLIT_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices kept and those held out, both ascending."""
    order = np.random.default_rng(seed).permutation(total)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def standardise(images: np.ndarray, statistics: Statistics, white: int) -> np.ndarray:
    """Scale pixels to [0, 1], then each channel to mean 0 and deviation 1."""
    # In place: a float32 copy of CIFAR-10 is 600 MB, and one is enough.
    pixels = images.astype(np.float32)
    pixels /= white
    pixels -= np.asarray(statistics.mean, np.float32)
    pixels /= np.asarray(statistics.deviation, np.float32)
    return pixels
