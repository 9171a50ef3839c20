"""What a stitched network is trained towards: losses that add and scale.

`hard(labels) + 0.5 * soft(logits)` is a target like its terms. Against the mean of two
networks' probabilities the cross-entropy is the mean of the two: `0.5 * soft(logits_1)
+ 0.5 * soft(logits_2)`.
"""

from stitching.targets._cka import cka
from stitching.targets._hard import hard
from stitching.targets._soft import soft
from stitching.targets._target import Target

__all__ = ["Target", "cka", "hard", "soft"]
