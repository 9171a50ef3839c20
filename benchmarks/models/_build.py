"""Building a model by name or import path for a dataset."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from benchmarks._names import check_name, import_object, is_import_path
from benchmarks.data import Dataset
from benchmarks.models._cnn import CNN
from benchmarks.models._layers import Norm
from benchmarks.models._mlp import MLP
from benchmarks.models._network import network
from benchmarks.models._resnet import ResNet
from benchmarks.models._tiny10 import Tiny10
from benchmarks.models._transformer import CharTransformer, ViT
from benchmarks.models._vgg import VGG


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


_IMAGES = ("image",)
_BUILDERS: dict[str, tuple[tuple[str, ...], Callable[[Dataset, Any], nn.Module]]] = {
    "mlp": (
        ("image", "vector"),
        lambda dataset, dtype: MLP(dataset.classes, dtype=dtype),
    ),
    "cnn": (_IMAGES, _cnn),
    "resnet20": (_IMAGES, _resnet("batch")),
    "resnet20_layernorm": (_IMAGES, _resnet("layer")),
    "vgg": (_IMAGES, _vgg),
    "vit": (_IMAGES, lambda dataset, dtype: ViT(dataset.classes, dtype=dtype)),
    "tiny10": (_IMAGES, lambda dataset, dtype: Tiny10(dataset.classes, dtype=dtype)),
    "transformer": (("text",), _transformer),
}

NAMES = tuple(_BUILDERS)


def build(
    name: str,
    dataset: Dataset,
    dtype: Any = None,
    *,
    width: int | None = None,
    options: Mapping[str, Any] | str = "{}",
) -> Any:
    """Build a model that fits a dataset.

    Args:
      name: One of `NAMES`: `"mlp"`, `"cnn"`, `"resnet20"` (BatchNorm),
        `"resnet20_layernorm"`, `"vgg"` (BatchNorm), `"vit"` and `"tiny10"` (BatchNorm;
        images of 27×27 or more) for images, `"transformer"` for text; or the import
        path of your own Linen or NNX module, `package.module:Class`.
      dataset: What it will be trained on; gives the number of classes and the sizes.
      dtype: What all layers but the last compute in; by default that of inputs and
        variables.
      width: Hidden units of each of an MLP's three hidden layers, or multiplier of a
        ResNet's channels; None for the usual model.
      options: Arguments of your own module, a mapping or JSON. Its arguments `classes`
        or `num_classes` and `dtype` are filled in if it has them.

    Returns:
      A Linen module: `apply(variables, inputs, train=False)` gives logits; or a
      function of `nnx.Rngs` that returns an NNX module.

    Raises:
      ValueError: If the name is unknown, or the model does not read this kind of data.

    Example:
      >>> from benchmarks import data
      >>> build("mlp", data.load("digits")).features
      (64, 64)
    """
    check(name, options)
    if is_import_path(name):
        model = _own(name, _parsed(options), dataset, dtype)
    else:
        kinds, builder = _BUILDERS[name]
        if dataset.kind not in kinds:
            fitting = [n for n, (k, _) in _BUILDERS.items() if dataset.kind in k]
            raise ValueError(
                f"model: {name!r} reads data of kind {' or '.join(kinds)}, and dataset "
                f"{dataset.name!r} is {dataset.kind} data: choose one of "
                f"{', '.join(fitting) or 'your own models'}, or another dataset"
            )
        if width is not None and name == "mlp":
            model = MLP(dataset.classes, features=(width,) * 3, dtype=dtype)
        elif width is not None and name in ("resnet20", "resnet20_layernorm"):
            norm = "layer" if name == "resnet20_layernorm" else "batch"
            model = ResNet(dataset.classes, width=width, norm=norm, dtype=dtype)
        else:
            model = builder(dataset, dtype)
    _check_fits(name, model, dataset)
    return model


def check(name: str, options: Mapping[str, Any] | str = "{}") -> None:
    """Raise if there is no such model, before any data is loaded.

    Args:
      name: As for `build`.
      options: As for `build`.
    """
    given = _parsed(options)
    if is_import_path(name):
        import_object("model", name)
        return
    check_name("model", name, NAMES, ", or package.module:Class")
    if given:
        raise ValueError(
            f"model_options: expected none for model {name!r}, got {dict(given)}"
        )


def _parsed(options: Mapping[str, Any] | str) -> dict[str, Any]:
    if isinstance(options, str):
        try:
            options = json.loads(options)
        except ValueError as error:
            raise ValueError(
                f"model_options: expected JSON such as '{{\"features\": 64}}', got "
                f"{options!r} ({error})"
            ) from error
    if not isinstance(options, Mapping):
        raise ValueError(f"model_options: expected a JSON object, got {options!r}")
    return {name: _hashable(value) for name, value in options.items()}


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class _Make:
    """Makes an NNX module; equal for equal arguments."""

    module: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, rngs: nnx.Rngs) -> Any:
        return self.module(**dict(self.options), rngs=rngs)


def _own(path: str, options: dict[str, Any], dataset: Dataset, dtype: Any) -> Any:
    make = import_object("model", path)
    # Of a class its initialiser: NNX's metaclass hides it.
    called = make.__init__ if inspect.isclass(make) else make
    parameters = dict(inspect.signature(called).parameters)
    parameters.pop("self", None)
    filled = {"classes": dataset.classes, "num_classes": dataset.classes}
    filled |= {} if dtype is None else {"dtype": dtype}
    options = {n: v for n, v in filled.items() if n in parameters} | options
    wrong = [name for name in options if name not in parameters]
    if wrong and not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f"model_options: {path!r} has no argument {wrong[0]!r}; it has "
            f"{', '.join(parameters)}"
        )
    if "rngs" in parameters:
        return _Make(make, tuple(sorted(options.items())))
    try:
        return make(**options)
    except TypeError as error:
        raise ValueError(f"model_options: {path!r}: {error}") from error


def _check_fits(name: str, model: Any, dataset: Dataset) -> None:
    """Raise if the model cannot read the dataset or gives other logits."""
    inputs = dataset.train.inputs[:2]
    given = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
    functions = network(model)
    try:
        variables = jax.eval_shape(functions.init, jax.random.key(0), given)
        logits = jax.eval_shape(functions.apply, variables, given)
    except Exception as error:  # your code, or Flax, may raise anything
        raise ValueError(
            f"model: {name!r} cannot read inputs of shape {inputs.shape} of dataset "
            f"{dataset.name!r}: {error}"
        ) from error
    expected = (*dataset.train.targets[:2].shape, dataset.classes)
    if getattr(logits, "shape", None) != expected:
        raise ValueError(
            f"model: expected logits of shape {expected} for dataset "
            f"{dataset.name!r}, got {getattr(logits, 'shape', logits)} from {name!r}"
        )
