"""Tiny Shakespeare: 1.1 MB of plays, read character by character."""

import dataclasses
from pathlib import Path

import numpy as np

from ._dataset import Dataset, Split
from ._remote import Remote, check_hash, fetch

CONTEXT = 64


@dataclasses.dataclass(frozen=True)
class Text:
    """Where a text comes from."""

    name: str
    remote: Remote

    def load(self, directory: Path, download: bool) -> Dataset:
        """Read the text in `directory`, downloading it first if it is not there."""
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


TINY_SHAKESPEARE = Text(
    name="tiny_shakespeare",
    remote=Remote(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
)
