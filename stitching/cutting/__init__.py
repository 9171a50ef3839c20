"""Cutting unmodified networks at the output of a layer."""

from stitching.cutting._cut import Cut, CutPoint, cut, cut_points

__all__ = ["Cut", "CutPoint", "cut", "cut_points"]
