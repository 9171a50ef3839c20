"""Layers that the convolutional networks share."""

import functools
from collections.abc import Callable
from typing import Any, Literal

from flax import linen as nn

Norm = Literal["batch", "layer"]

# A normalisation, which shifts as well, follows each of them.
convolution = functools.partial(
    nn.Conv, use_bias=False, kernel_init=nn.initializers.he_normal()
)


def check_norm(norm: str) -> None:
    """Refuse what is neither normalisation."""
    if norm not in ("batch", "layer"):
        raise ValueError(f"norm: expected 'batch' or 'layer', got {norm!r}")


def normalisation(norm: Norm, train: bool, dtype: Any) -> Callable[[], Any]:
    """BatchNorm, or LayerNorm over the channels at each position."""
    if norm == "layer":
        return functools.partial(nn.LayerNorm, dtype=dtype)
    # Flax's decay of 0.99 remembers more steps than a short run has.
    return functools.partial(
        nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=dtype
    )
