"""What a loaded dataset is."""

import dataclasses
from typing import Any, Literal, NamedTuple

import numpy as np


class DataError(ValueError):
    """A data file is missing, damaged, or could not be downloaded."""


class Split(NamedTuple):
    """One part of a dataset, or some of its rows; NumPy or JAX arrays.

    Attributes:
        inputs: images, float32 of shape (n, height, width, channels); vectors, float32
            (n, features); or token ids, int32 (n, length).
        targets: int32, a class (n,); for text, the next token at each position (n,
            length).
    """

    inputs: Any
    targets: Any

    def taken(self, rows: Any) -> "Split":
        """Return rows by their indices, or a slice of them."""
        return Split(*(x[rows] for x in self))

    def first(self, count: int) -> "Split":
        """Return the first rows."""
        return self.taken(slice(count))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in three parts that share no example.

    Attributes:
        name: the name it was loaded by.
        train: what is trained on.
        validation: what choices are made on.
        test: what is reported.
        classes: the number of classes, or of distinct tokens.
        kind: "image", "vector", "text" (a target for each token) or "tokens" (one class
            for all).
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    kind: Literal["image", "vector", "text", "tokens"]


# The seed is fixed: every run everywhere validates on the same examples.
def hold_out(total: int, held_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices kept and those held out, both ascending."""
    order = np.random.default_rng(0).permutation(total)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
