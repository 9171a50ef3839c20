"""Building the model of a name for a dataset."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from .._names import lookup
from ..data import Dataset
from ._cnn import CNN
from ._layers import Norm
from ._mlp import MLP
from ._resnet import ResNet
from ._tiny10 import Tiny10
from ._transformer import CharTransformer, ViT
from ._vgg import VGG


def _cnn(dataset: Dataset, dtype: Any) -> nn.Module:
    # Colour photographs need more features than grey digits and clothes.
    scale = 2 if dataset.train.inputs.shape[-1] == 3 else 1
    channels = (16 * scale, 32 * scale)
    return CNN(dataset.classes, channels, features=64 * scale, dtype=dtype)


def _resnet(norm: Norm) -> Callable[[Dataset, Any], nn.Module]:
    return lambda dataset, dtype: ResNet(dataset.classes, norm=norm, dtype=dtype)


def _vgg(dataset: Dataset, dtype: Any) -> nn.Module:
    # A quarter of the original's width: a sixteenth of its work.
    return VGG(dataset.classes, width=16, dtype=dtype)


def _transformer(dataset: Dataset, dtype: Any) -> nn.Module:
    context = dataset.train.inputs.shape[1]
    return CharTransformer(dataset.classes, context=context, dtype=dtype)


_BUILDERS: dict[str, tuple[str, Callable[[Dataset, Any], nn.Module]]] = {
    "mlp": ("image", lambda dataset, dtype: MLP(dataset.classes, dtype=dtype)),
    "cnn": ("image", _cnn),
    "resnet20": ("image", _resnet("batch")),
    "resnet20_layernorm": ("image", _resnet("layer")),
    "vgg": ("image", _vgg),
    "vit": ("image", lambda dataset, dtype: ViT(dataset.classes, dtype=dtype)),
    "tiny10": ("image", lambda dataset, dtype: Tiny10(dataset.classes, dtype=dtype)),
    "transformer": ("text", _transformer),
}

NAMES = tuple(_BUILDERS)


def build(name: str, dataset: Dataset, dtype: Any = None) -> nn.Module:
    """Build a model that fits a dataset.

    Args:
      name: one of `NAMES`: `"mlp"`, `"cnn"`, `"resnet20"` (BatchNorm),
        `"resnet20_layernorm"`, `"vgg"` (BatchNorm), `"vit"` and `"tiny10"` (BatchNorm;
        images of 27×27 or more) for images, `"transformer"` for text.
      dataset: what it will be trained on; gives the number of classes and the sizes.
      dtype: what all layers but the last compute in; by default that of inputs and
        variables.

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
    return builder(dataset, dtype)
