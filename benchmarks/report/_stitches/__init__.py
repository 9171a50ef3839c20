"""The figures of experiments on stitching."""

from benchmarks.report._stitches._audited import audit
from benchmarks.report._stitches._by_layer import by_layer, taste
from benchmarks.report._stitches._classes import classes
from benchmarks.report._stitches._curves import curves
from benchmarks.report._stitches._indices import indices
from benchmarks.report._stitches._layer_to_layer import layer_to_layer

__all__ = [
    "audit",
    "by_layer",
    "classes",
    "curves",
    "indices",
    "layer_to_layer",
    "taste",
]
