"""Building the model of a name for a dataset."""

from collections.abc import Callable

from flax import linen as nn

from .._names import lookup
from ..data import Dataset
from ._cnn import CNN
from ._mlp import MLP
from ._resnet import ResNet
from ._tiny10 import Tiny10
from ._transformer import CharTransformer, ViT
from ._vgg import VGG


def _cnn(dataset: Dataset) -> nn.Module:
    # Colour photographs need more features than grey digits and clothes.
    scale = 2 if dataset.train.inputs.shape[-1] == 3 else 1
    return CNN(dataset.classes, channels=(16 * scale, 32 * scale), features=64 * scale)


def _transformer(dataset: Dataset) -> nn.Module:
    return CharTransformer(dataset.classes, context=dataset.train.inputs.shape[1])


_BUILDERS: dict[str, tuple[str, Callable[[Dataset], nn.Module]]] = {
    "mlp": ("image", lambda dataset: MLP(dataset.classes)),
    "cnn": ("image", _cnn),
    "resnet20": ("image", lambda dataset: ResNet(dataset.classes)),
    "resnet20_layernorm": (
        "image",
        lambda dataset: ResNet(dataset.classes, norm="layer"),
    ),
    # A quarter of the original's width: a sixteenth of its work.
    "vgg": ("image", lambda dataset: VGG(dataset.classes, width=16)),
    "vit": ("image", lambda dataset: ViT(dataset.classes)),
    "tiny10": ("image", lambda dataset: Tiny10(dataset.classes)),
    "transformer": ("text", _transformer),
}

NAMES = tuple(_BUILDERS)


def build(name: str, dataset: Dataset) -> nn.Module:
    """Build a model that fits a dataset.

    Args:
      name: one of `NAMES`: `"mlp"`, `"cnn"`, `"resnet20"` (BatchNorm),
        `"resnet20_layernorm"`, `"vgg"` (BatchNorm), `"vit"` and `"tiny10"` (BatchNorm;
        images of 27×27 or more) for images, `"transformer"` for text.
      dataset: what it will be trained on; gives the number of classes and the sizes.

    Returns:
      A Flax Linen module: `apply(variables, inputs, train=False)` gives logits.

    Raises:
      ValueError: the name is unknown, or the model does not read this kind of data.

    Example:
      >>> from benchmarks import data
      >>> build("mlp", data.load("digits")).features
      (64, 64)
    """
    kind, builder = lookup(_BUILDERS, name, "model")
    if kind != dataset.kind:
        fitting = [n for n, (k, _) in _BUILDERS.items() if k == dataset.kind]
        raise ValueError(
            f"model {name!r} reads {kind} data, and dataset {dataset.name!r} is "
            f"{dataset.kind} data: choose one of {', '.join(fitting)}, or another "
            "dataset"
        )
    return builder(dataset)
