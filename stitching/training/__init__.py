"""Stitched networks, and training their stitching layers on the task.

One step, read in order: `_train.py` (data and loop), `_step.py` (the step),
`_stitched.py` (the network).
"""

from stitching.training._batches import in_batches
from stitching.training._stitched import Stitched, stitch
from stitching.training._train import Trained, each, train, train_many

__all__ = [
    "Stitched",
    "Trained",
    "each",
    "in_batches",
    "stitch",
    "train",
    "train_many",
]
