"""What an experiment on combinability is asked."""

import dataclasses
import math
from typing import Literal

from benchmarks._names import check_name, is_import_path
from benchmarks._precision import Dtype, Precision, check_precision
from benchmarks._ranges import check_counts, check_positive

Model = Literal["mlp", "resnet20", "resnet20_layernorm", "tiny10"]
# Widths by model: hidden units of each layer, or a multiplier of the channels.
WIDTHS: dict[str, tuple[int, ...]] = {
    "mlp": (32, 128, 512),
    "resnet20": (1,),
    "resnet20_layernorm": (1,),
    "tiny10": (1,),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks of several widths that are aligned and combined.

    Args:
      dataset: "digits" (embedded), or "mnist", "fashion_mnist", "cifar10", "cifar100"
        (found in the data folder, else downloaded).
      model: "mlp" (three hidden layers), "resnet20_layernorm", or with BatchNorm
        "resnet20", "tiny10"; or your own Linen or NNX module, package.module:Class.
      model_options: Arguments of your own module, as JSON: '{"features": 64}'.
      widths: Hidden units of each layer of an MLP, or multiplier of a ResNet's
        channels; by default 32, 128 and 512, or 1.
      weights: Trained networks of one width, at least 3: files of published ones (.npz
        or .safetensors), or one that an earlier run has written (networks/*.npz in its
        folder). They are looked for from here, then in the data folder. By default,
        networks are trained.
      weights_mapping: Import path of a function that reads your own files of weights:
        it takes a path and returns nested dicts of arrays.
      networks: Independently trained networks of each width, at least 3.
      steps: Training steps of Adam, under a cosine schedule.
      batch_size: Rows of a minibatch.
      learning_rate: Adam's, at the start.
      weight_decay: AdamW's; 0 is Adam.
      rows: Training rows, and as many test rows, that combinations are evaluated on.
      calibration: Other training rows, that REPAIR and temperatures are fitted on.
      samples: Combinations for each distribution, over all pairs together.
      points: Points of a segment between two networks.
      fractions: Parts of the matched units that are moved, for robustness.
      resolution: Points along a side of a plane of the landscape.
      seed: Of all that is drawn besides the networks.
      precision: Of float32 products on accelerators: "default" (GPUs: TF32, TPUs:
        bfloat16), "high" or "highest". CPUs compute in float32 whatever is asked.
      dtype: What all layers of a network but the last compute in: "float32" or
        "bfloat16". Parameters, losses and optimizers are float32.
    """

    dataset: str = "digits"
    model: Model | str = "mlp"
    model_options: str = "{}"
    widths: tuple[int, ...] | None = None
    weights: tuple[str, ...] = ()
    weights_mapping: str | None = None
    networks: int = 5
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    rows: int = 1000
    calibration: int = 500
    samples: int = 1000
    points: int = 11
    fractions: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    resolution: int = 17
    seed: int = 0
    precision: Precision = "default"
    dtype: Dtype = "float32"

    def __post_init__(self):
        check_precision(self.precision, self.dtype)
        if not is_import_path(self.model):
            check_name("model", self.model, WIDTHS, ", or package.module:Class")
        check_counts(self, networks=2, points=3, resolution=5, seed=0)
        check_counts(self, steps=1, batch_size=1, rows=1, calibration=1)
        check_counts(self, samples=self.networks)
        if self.widths is not None:
            check_counts(self, widths=1)
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
        check_positive(self, "learning_rate")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"weight_decay: expected a finite number of at least 0, got "
                f"{self.weight_decay}"
            )
        if not self.fractions or not all(0 <= part <= 1 for part in self.fractions):
            raise ValueError(
                f"fractions: expected one or more in [0, 1], got {self.fractions}"
            )

    @property
    def chosen_widths(self) -> tuple[int, ...]:
        """The widths asked for, or those that suit the model."""
        return WIDTHS.get(self.model, (1,)) if self.widths is None else self.widths
