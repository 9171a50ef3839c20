"""What an experiment on stitching is asked."""

import dataclasses
import math
from typing import Literal

from benchmarks._names import check_name, is_import_path
from benchmarks._precision import Dtype, Precision, check_precision
from benchmarks._ranges import check_counts, check_positive

Model = Literal["mlp", "cnn", "tiny10", "resnet20", "resnet20_layernorm", "vgg", "vit"]
# By model, the layers whose outputs are stitched: a pattern that names match whole.
LAYERS: dict[str, str] = {
    "mlp": r"Dense_\d+",
    "cnn": r"(Conv|Dense)_\d+",
    "tiny10": r"bn\d+",
    "resnet20": r"_Block_\d+",
    "resnet20_layernorm": r"_Block_\d+",
    "vgg": r"BatchNorm_\d+",
    "vit": r"_Block_\d+",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Pairs of networks that are stitched at every layer, in every way.

    The front of network 1 is joined to the back of network 2 by an affine map of
    channels. On every pair: least squares, Procrustes, reduced rank, permutation, and
    an affine map trained on the task from least squares. On the first `deep` pairs
    besides: sparse maps, other starts, other targets, and the other classes of maps
    trained on the task. Maps are fitted on training rows and scored on test rows.

    Args:
      dataset: "digits" (embedded), or "mnist", "fashion_mnist", "cifar10", "cifar100"
        (found in the data folder, else downloaded).
      model: "mlp", "cnn", "vit", "resnet20_layernorm", or with BatchNorm "resnet20",
        "vgg", "tiny10"; or your own Linen or NNX module, package.module:Class.
      model_options: Arguments of your own module, as JSON: '{"features": 64}'.
      width: Hidden units of an MLP with three hidden layers, or multiplier of a
        ResNet's channels; by default the model as other experiments have it.
      weights: Trained networks: files of published ones (.npz or .safetensors), or
        one that an earlier run has written (networks/*.npz in its folder). They are
        looked for from here, then in the data folder. By default, networks are trained.
      weights_mapping: Import path of a function that reads your own files of weights:
        it takes a path and returns nested dicts of arrays.
      networks: How many networks are trained.
      training_steps: Of each, by Adam under a cosine schedule.
      training_batch_size: Rows of a minibatch.
      training_learning_rate: Adam's, at the start.
      layers: Layers to stitch at, by path; by default those that suit the model.
      pairs: Ordered pairs of networks, spread over the networks.
      deep: Pairs, the first ones, on which everything is tried.
      cross: Pairs, the first ones, of which every layer is stitched to every layer.
      audited: Pairs, the first ones, of which two ways of matching are audited.
      fit_rows: Training rows that maps are fitted on.
      test_rows: Test rows that they are scored on.
      cross_rows: Rows for fits of layer to layer and in audits; at most half as many
        test rows score them.
      steps: Steps of task-loss matching, by Adam.
      batch_size: Rows of its minibatches.
      learning_rate: Adam's, there.
      ranks: Shares of the full rank.
      penalties: Of sparse maps: shares of the penalty from which on all is zero.
      task_penalties: L1 penalties of sparse maps trained on the task. Adam takes steps
        of about the learning rate; a penalty of 1 takes off as much.
      precision: Of float32 products of networks on accelerators: "default" (GPUs: TF32,
        TPUs: bfloat16 passes), "high" or "highest"; CPUs have float32.
      dtype: What all layers of a network but the last compute in: "float32" or
        "bfloat16". Parameters, losses, moments and maps are float32.
      seed: Of all that is drawn.
    """

    dataset: str = "digits"
    model: Model | str = "cnn"
    model_options: str = "{}"
    width: int | None = None
    weights: tuple[str, ...] = ()
    weights_mapping: str | None = None
    networks: int = 4
    training_steps: int = 500
    training_batch_size: int = 64
    training_learning_rate: float = 2e-3
    layers: tuple[str, ...] | None = None
    pairs: int = 10
    deep: int = 2
    cross: int = 2
    audited: int = 1
    fit_rows: int = 5000
    test_rows: int = 2000
    cross_rows: int = 1000
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 5e-3
    ranks: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5)
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    task_penalties: tuple[float, ...] = (1.0, 0.3, 0.1)
    precision: Precision = "default"
    dtype: Dtype = "float32"
    seed: int = 0

    def __post_init__(self):
        if not is_import_path(self.model):
            check_name("model", self.model, LAYERS, ", or package.module:Class")
        check_precision(self.precision, self.dtype)
        check_counts(self, networks=2, pairs=1, deep=0, cross=0, audited=0, seed=0)
        check_counts(self, training_steps=1, training_batch_size=1)
        check_counts(self, steps=1, batch_size=1, fit_rows=self.batch_size)
        check_counts(self, test_rows=2, cross_rows=4)
        check_positive(self, "training_learning_rate", "learning_rate")
        for name in ("ranks", "penalties"):
            if not all(0 < share < 1 for share in getattr(self, name)):
                raise ValueError(
                    f"{name}: expected fractions between 0 and 1, got "
                    f"{getattr(self, name)}"
                )
        if not all(0 < penalty < math.inf for penalty in self.task_penalties):
            raise ValueError(
                f"task_penalties: expected positive numbers, got {self.task_penalties}"
            )
        if self.width is not None:
            check_counts(self, width=1)
            if self.model in _ONE_SIZE or is_import_path(self.model):
                raise ValueError(
                    f"width: expected none, as {self.model!r} has one size, got "
                    f"{self.width}"
                )


_ONE_SIZE = ("cnn", "tiny10", "vgg", "vit")


def spread_pairs(networks: int, count: int) -> list[tuple[int, int]]:
    """Return ordered pairs of different networks, spread evenly over the networks.

    Args:
      networks: How many networks there are.
      count: Pairs, or as many as there are.

    Returns:
      (front, back) of each pair.

    Example:
      >>> spread_pairs(4, 6)
      [(0, 1), (2, 3), (1, 2), (3, 0), (0, 2), (2, 0)]
    """
    order = [*range(0, networks, 2), *range(1, networks, 2)]
    pairs = [
        (first, (first + shift) % networks)
        for shift in range(1, networks)
        for first in order
    ]
    return pairs[:count]
