"""The 1,797 handwritten digits (8×8 pixels) that scikit-learn ships."""

from pathlib import Path

import numpy as np

from ._dataset import Dataset, Statistics, hold_out, image_dataset

_TEST = 300
_VALIDATION = 300
# Of the 1,197 training images.
_STATISTICS = Statistics(mean=(0.3046,), deviation=(0.3755,))


def load_digits(directory: Path, download: bool) -> Dataset:
    """Return digits; it is part of scikit-learn, so no file is looked for."""
    del directory, download
    # Importing scikit-learn takes a second, which only this dataset should cost.
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    images = np.reshape(images, (-1, 8, 8, 1))
    kept, held_out = hold_out(len(images), _TEST)
    return image_dataset(
        "digits",
        (images[kept], labels[kept]),
        (images[held_out], labels[held_out]),
        validation=_VALIDATION,
        classes=10,
        statistics=_STATISTICS,
        white=16,
    )
