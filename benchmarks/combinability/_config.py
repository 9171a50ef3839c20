"""What an experiment on combinability is asked."""

import dataclasses

from benchmarks._names import lookup

# Widths by model: hidden units of each layer, or a multiplier of the channels.
WIDTHS: dict[str, tuple[int, ...]] = {
    "mlp": (32, 128, 512),
    "resnet20": (1,),
    "resnet20_layernorm": (1,),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks of several widths that are aligned and combined.

    Args:
      dataset: "digits" (embedded), or "mnist", "fashion_mnist", "cifar10", "cifar100"
        (found in the data folder, else downloaded).
      model: "mlp" (three hidden layers), "resnet20_layernorm", "resnet20" (BatchNorm).
      widths: Hidden units of each layer of an MLP, or multiplier of a ResNet's
        channels; by default 32, 128 and 512, or 1.
      networks: Independently trained networks of each width, at least 3.
      steps: Training steps of Adam, under a cosine schedule.
      batch_size: Rows of a minibatch.
      learning_rate: Adam's, at the start.
      rows: Training rows, and as many test rows, that combinations are evaluated on.
      calibration: Other training rows, that REPAIR and temperatures are fitted on.
      samples: Combinations for each distribution, over all pairs together.
      batch: Combinations side by side; by default the fastest here, by timing.
      points: Points of a segment between two networks.
      fractions: Parts of the matched units that are moved, for robustness.
      resolution: Points along a side of a plane of the landscape.
      seed: Of all that is drawn besides the networks.
    """

    dataset: str = "digits"
    model: str = "mlp"
    widths: tuple[int, ...] | None = None
    networks: int = 5
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-3
    rows: int = 1000
    calibration: int = 500
    samples: int = 1000
    batch: int | None = None
    points: int = 11
    fractions: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    resolution: int = 17
    seed: int = 0

    def __post_init__(self):
        lookup(WIDTHS, self.model, "model")
        least = {"networks": 2, "points": 3, "samples": self.networks, "resolution": 5}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected at least {minimum}"
                )
        for name in ("steps", "batch_size", "rows", "calibration"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected at least 1"
                )
        if not all(0 <= fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"fractions are {self.fractions}, expected each in [0, 1]")
        if min(self.chosen_widths) < 1:
            raise ValueError(f"widths are {self.widths}, expected each at least 1")

    @property
    def chosen_widths(self) -> tuple[int, ...]:
        """The widths asked for, or those that suit the model."""
        return self.widths or WIDTHS[self.model]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of networks."""
        count = self.networks
        return [(i, j) for i in range(count) for j in range(i + 1, count)]

    @property
    def ring(self) -> list[tuple[int, int]]:
        """As many pairs as networks, each network in two of them."""
        pairs = [(i, (i + 1) % self.networks) for i in range(self.networks)]
        return sorted({(min(pair), max(pair)) for pair in pairs})
