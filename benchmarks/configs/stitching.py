"""Options of an experiment on stitching."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

from benchmarks._options import (
    NetworkOptions,
    check_counts,
    check_name,
    check_positive,
    is_import_path,
)

Model = Literal[
    "mlp",
    "cnn",
    "tiny10",
    "resnet20",
    "resnet20_layernorm",
    "vgg",
    "vgg_layernorm",
    "vit",
]
# By model, the layers whose outputs are stitched: a pattern that names match whole.
LAYERS: dict[str, str] = {
    "mlp": r"Dense_\d+",
    "cnn": r"(Conv|Dense)_\d+",
    "tiny10": r"bn\d+",
    "resnet20": r"_Block_\d+",
    "resnet20_layernorm": r"_Block_\d+",
    "vgg": r"BatchNorm_\d+",
    "vgg_layernorm": r"LayerNorm_\d+",
    "vit": r"_Block_\d+",
}


@dataclasses.dataclass(frozen=True)
class Config(NetworkOptions):
    """Join the front of one network to the back of another, at every layer.

    Shows how well stitched networks do with maps of channels that are fitted directly
    or trained on the task, which ranks and sparsities are enough, what similarity
    indices say, and whether the stitches can be trusted. Every pair has least squares,
    Procrustes, reduced ranks, a permutation and an affine map trained on the task; the
    first `deep` pairs have all kinds of maps, starts and targets. Maps are fitted on
    training rows and scored on test rows. For instance: python -m benchmarks stitching
    --dataset cifar10 --model tiny10 --weights tiny10/seed0.npz tiny10/seed1.npz

    Args:
        model: "mlp", "cnn", "vit", "resnet20_layernorm", "vgg_layernorm", or with
            BatchNorm "resnet20", "vgg", "tiny10"; or your own Linen or NNX module,
            package.module:Class.
        width: hidden units of an MLP with three hidden layers, multiplier of a ResNet's
            channels, or channels of the first stage of a VGG; by default the model as
            other experiments have it.
        training_steps: of each network, by Adam under a cosine schedule.
        training_batch_size: rows of a minibatch.
        training_learning_rate: Adam's, at the start.
        layers: layers to stitch at, by path; by default those that suit the model.
        pairs: ordered pairs of networks, spread over the networks.
        deep: pairs, the first ones, on which everything is tried.
        cross: pairs, the first ones, of which every layer is stitched to every layer.
        cross_steps: steps of task-loss matching there.
        other_model: a second kind of networks, trained alike: every layer of one kind
            is stitched to every layer of the other. By default none; with
            `other_width`, the same model.
        other_width: width of the second kind.
        between: how many networks of each kind are stitched to the other.
        audited: pairs, the first ones, of which two ways of matching are audited.
        fit_rows: training rows that maps are fitted on.
        test_rows: test rows that they are scored on.
        cross_rows: rows for fits of layer to layer and in audits; at most half as many
            test rows score them.
        steps: steps of task-loss matching, by Adam.
        batch_size: rows of its minibatches.
        learning_rate: Adam's, there.
        ranks: shares of the full rank.
        penalties: of sparse maps: shares of the penalty from which on all is zero.
        task_penalties: L1 penalties of sparse maps trained on the task. Adam takes
            steps of about the learning rate; a penalty of 1 takes off as much.
    """

    model: Model | str = "cnn"
    width: int | None = None
    training_steps: int = 500
    training_batch_size: int = 64
    training_learning_rate: float = 2e-3
    layers: tuple[str, ...] | None = None
    pairs: int = 10
    deep: int = 2
    cross: int = 2
    cross_steps: int = 100
    other_model: Model | str | None = None
    other_width: int | None = None
    between: int = 3
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

    quick: ClassVar[dict[str, Any]] = {
        "model": "mlp",
        "networks": 2,
        "training_steps": 200,
        "pairs": 2,
        "deep": 0,
        "cross": 1,
        "cross_steps": 20,
        "fit_rows": 500,
        "test_rows": 300,
        "cross_rows": 200,
        "steps": 50,
    }

    def __post_init__(self):
        self.check(LAYERS)
        check_counts(self, pairs=1, deep=0, cross=0, audited=0, between=2)
        check_counts(self, training_steps=1, training_batch_size=1)
        check_counts(
            self, steps=1, cross_steps=1, batch_size=1, fit_rows=self.batch_size
        )
        check_counts(self, test_rows=2, cross_rows=4)
        check_positive(self, "training_learning_rate", "learning_rate")
        for name, largest in (
            ("ranks", 1),
            ("penalties", 1),
            ("task_penalties", math.inf),
        ):
            values = getattr(self, name)
            if not all(0 < value < largest for value in values):
                raise ValueError(
                    f"{name}: expected numbers between 0 and {largest}, got {values}"
                )
        self._check_width("width", self.model)
        self._check_width("other_width", self.other_model or self.model)
        if self.other_model and not is_import_path(self.other_model):
            check_name("other_model", self.other_model, LAYERS)

    def _check_width(self, name: str, model: str) -> None:
        width = getattr(self, name)
        if width is None:
            return
        check_counts(self, **{name: 1})
        if model in _ONE_SIZE or is_import_path(model):
            raise ValueError(
                f"{name}: expected none, as {model!r} has one size, got {width}"
            )

    @property
    def other(self) -> "Config | None":
        """The same of the other kind of networks, if there is one."""
        if self.other_model is None and self.other_width is None:
            return None
        return dataclasses.replace(
            self,
            model=self.other_model or self.model,
            model_options="{}" if self.other_model else self.model_options,
            width=self.other_width,
            weights=(),
            layers=None,
            networks=self.between,
            seed=self.seed + 1,
            other_model=None,
            other_width=None,
        )


_ONE_SIZE = ("cnn", "tiny10", "vit")


def spread_pairs(networks: int, count: int) -> list[tuple[int, int]]:
    """Return at most `count` ordered pairs of networks, spread evenly over them.

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
