"""Stitched networks, and training their stitching layers on the task."""

from stitching.training._batches import in_batches
from stitching.training._many import each, train_many
from stitching.training._stitched import Stitched, stitch
from stitching.training._train import Trained, train

__all__ = [
    "Stitched",
    "Trained",
    "each",
    "in_batches",
    "stitch",
    "train",
    "train_many",
]
