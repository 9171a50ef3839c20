"""Options of an experiment on combinability."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

from benchmarks._options import (
    NetworkOptions,
    check_counts,
    check_positive,
    is_import_path,
)

Model = Literal[
    "mlp", "resnet20", "resnet20_layernorm", "vgg", "vgg_layernorm", "tiny10"
]
Matching = Literal["activations", "straight_through"]
# Widths by model: hidden units of each layer, a multiplier of the channels, or channels
# of the first stage of a VGG.
WIDTHS: dict[str, tuple[int, ...]] = {
    "mlp": (32, 128, 512),
    "resnet20": (1,),
    "resnet20_layernorm": (1,),
    "vgg": (16,),
    "vgg_layernorm": (16,),
    "tiny10": (1,),
}


@dataclasses.dataclass(frozen=True)
class Config(NetworkOptions):
    """Train networks, align them, and combine them all over the hypercube.

    Shows barriers with and without matching and repair, losses of thousands of random
    combinations, transitivity, robustness, and how combinations differ. For instance:
    python -m benchmarks combinability --dataset mnist --widths 32 128

    Args:
        model: "mlp" (three hidden layers), "resnet20_layernorm", "vgg_layernorm", or
            with BatchNorm "resnet20", "vgg", "tiny10"; or your own Linen or NNX module,
            package.module:Class.
        widths: hidden units of each layer of an MLP, multiplier of a ResNet's channels,
            or channels of the first stage of a VGG; by default 32, 128 and 512, 1, or
            16.
        networks: independently trained networks of each width, at least 3.
        steps: training steps of Adam, under a cosine schedule.
        batch_size: rows of a minibatch.
        learning_rate: Adam's, at the start.
        weight_decay: AdamW's; 0 is Adam.
        rows: training rows, and as many test rows, that combinations are evaluated on.
        calibration: other training rows, that REPAIR and temperatures are fitted on.
        samples: combinations for each distribution, over all pairs together.
        repaired: repair one in this many combinations of aligned networks as well; 0
            repairs none.
        matchings: other ways to match than by weights, to compare with it:
            "activations", "straight_through" (both on the calibration rows; the second
            takes minutes for a pair of width 1,024).
        points: points of a segment between two networks.
        fractions: parts of the matched units that are moved, for robustness.
        resolution: points along a side of a plane of the landscape.
    """

    model: Model | str = "mlp"
    widths: tuple[int, ...] | None = None
    networks: int = 5
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    rows: int = 1000
    calibration: int = 500
    samples: int = 1000
    repaired: int = 5
    matchings: tuple[Matching, ...] = ("activations", "straight_through")
    points: int = 11
    fractions: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    resolution: int = 17

    quick: ClassVar[dict[str, Any]] = {
        "networks": 3,
        "steps": 300,
        "rows": 200,
        "calibration": 100,
        "samples": 60,
        "matchings": ("activations",),
        "points": 5,
        "fractions": (0.0, 0.2, 1.0),
        "resolution": 7,
    }
    quick_by_model: ClassVar[dict[str, dict[str, Any]]] = {"mlp": {"widths": (64,)}}

    def __post_init__(self):
        self.check(WIDTHS)
        check_counts(self, repaired=0, points=3, resolution=5, samples=self.networks)
        check_counts(self, steps=1, batch_size=1, rows=1, calibration=1)
        check_counts(self, **({} if self.widths is None else {"widths": 1}))
        check_positive(self, "learning_rate")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                "weight_decay: expected a finite number of at least 0, got "
                f"{self.weight_decay}"
            )
        one_size = self.model == "tiny10" or is_import_path(self.model)
        if one_size and set(self.chosen_widths) != {1}:
            raise ValueError(
                f"widths: expected 1, as {self.model!r} has one size, got {self.widths}"
            )
        if self.weights and len(self.chosen_widths) > 1:
            raise ValueError(
                "widths: expected one, that of the networks in weights, got "
                f"{self.chosen_widths}"
            )
        if not self.fractions or not all(0 <= part <= 1 for part in self.fractions):
            raise ValueError(
                f"fractions: expected one or more in [0, 1], got {self.fractions}"
            )

    @property
    def chosen_widths(self) -> tuple[int, ...]:
        """The widths asked for, or those that suit the model."""
        return WIDTHS.get(self.model, (1,)) if self.widths is None else self.widths
