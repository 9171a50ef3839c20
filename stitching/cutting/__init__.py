"""Cutting unmodified networks at the output of a layer."""

from stitching.cutting._cut import Cut, CutPoint, cut, cut_points, layer_outputs

__all__ = ["Cut", "CutPoint", "cut", "cut_points", "layer_outputs"]
