"""What a stitched network is trained towards: losses that add and scale.

`hard(labels) + 0.5 * soft(logits)` is a target like its terms. Against the mean of two
networks' probabilities the cross-entropy is the mean of the two: `0.5 * soft(logits_1)
+ 0.5 * soft(logits_2)`.
"""

from stitching.targets._targets import Target, cka, hard, soft, squared_error

__all__ = ["Target", "cka", "hard", "soft", "squared_error"]
