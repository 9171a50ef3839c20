"""Building a model by name or import path for a dataset."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict

from benchmarks._options import (
    check_name,
    described,
    import_object,
    is_import_path,
)
from benchmarks.data import Dataset
from benchmarks.models._images import CNN, MLP, VGG, ResNet
from benchmarks.models._network import network
from benchmarks.models._tiny10 import Tiny10
from benchmarks.models._transformer import CharTransformer, ViT


def _mlp(dataset: Dataset, width: int | None, **options: Any) -> MLP:
    if width is not None:
        options["features"] = (width,) * 3
    return MLP(dataset.classes, **options)


def _cnn(dataset: Dataset, width: int | None, **options: Any) -> CNN:
    # Colour photographs need more features than grey digits and clothes.
    scale = 2 if dataset.train.inputs.shape[-1] == 3 else 1
    channels = (16 * scale, 32 * scale)
    return CNN(dataset.classes, channels, features=64 * scale, **options)


def _vgg(dataset: Dataset, width: int | None, **options: Any) -> VGG:
    # By default a quarter of the original's width: a sixteenth of its work.
    return VGG(dataset.classes, width=width or 16, **options)


# By name, the kinds of data that it reads and `make(dataset, width, dtype=…)`.
_BUILDERS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "mlp": (("image", "vector"), _mlp),
    "cnn": (("image",), _cnn),
    "resnet20": (
        ("image",),
        lambda data, width, **more: ResNet(data.classes, width=width or 1, **more),
    ),
    "resnet20_layernorm": (
        ("image",),
        lambda data, width, **more: ResNet(
            data.classes, width=width or 1, norm="layer", **more
        ),
    ),
    "vgg": (("image",), _vgg),
    "vgg_layernorm": (("image",), functools.partial(_vgg, norm="layer")),
    "vit": (("image",), lambda data, _, **more: ViT(data.classes, **more)),
    "tiny10": (("image",), lambda data, _, **more: Tiny10(data.classes, **more)),
    "transformer": (
        ("text",),
        lambda data, _, **more: CharTransformer(
            data.classes, context=data.train.inputs.shape[1], **more
        ),
    ),
}

NAMES = tuple(_BUILDERS)
_ONE_SIZE = ("cnn", "vit", "tiny10", "transformer")


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
        name: one of `NAMES`: `"mlp"`, `"cnn"`, `"resnet20"` (BatchNorm),
            `"resnet20_layernorm"`, `"vgg"` (BatchNorm), `"vgg_layernorm"`, `"vit"` and
            `"tiny10"` (BatchNorm; images of 27×27 or more) for images, `"transformer"`
            for text; or the import path of your own Linen or NNX module,
            `package.module:Class`.
        dataset: what it will be trained on; gives the number of classes and the sizes.
        dtype: what all layers but the last compute in; by default that of inputs and
            variables.
        width: hidden units of each of an MLP's three hidden layers, multiplier of a
            ResNet's channels, or channels of the first stage of a VGG; None for the
            usual model. Others have one size: None or 1.
        options: arguments of your own module, a mapping or JSON. Its arguments
            `classes` or `num_classes` and `dtype` are filled in if it has them.

    Returns:
        A Linen module: `apply(variables, inputs, train=False)` gives logits; or a
        function of `nnx.Rngs` that returns an NNX module.

    Raises:
        ValueError: if the name is unknown, the model does not read this kind of data,
            or has one size where another is asked for.

    Example:
        >>> from benchmarks import data
        >>> build("mlp", data.load("digits")).features
        (64, 64)
    """
    check(name, options)
    if width not in (None, 1) and (is_import_path(name) or name in _ONE_SIZE):
        raise ValueError(f"width: expected none, as {name!r} has one size, got {width}")
    if is_import_path(name):
        model = _own(name, _parsed(options), dataset, dtype)
    else:
        kinds, make = _BUILDERS[name]
        if dataset.kind not in kinds:
            fitting = [n for n, (k, _) in _BUILDERS.items() if dataset.kind in k]
            raise ValueError(
                f"model: {name!r} reads data of kind {' or '.join(kinds)}, and dataset "
                f"{dataset.name!r} is {dataset.kind} data: choose one of "
                f"{', '.join(fitting) or 'your own models'}, or another dataset"
            )
        model = make(dataset, width, dtype=dtype)
    _check_fits(name, model, dataset)
    return model


def check(name: str, options: Mapping[str, Any] | str = "{}") -> None:
    """Raise if there is no such model, before any data is loaded."""
    given = _parsed(options)
    if is_import_path(name):
        _maker(name)
        return
    check_name("model", name, NAMES, ", or package.module:Class")
    if given:
        raise ValueError(f"model_options: expected none for {name!r}, got {given}")


def _parsed(options: Mapping[str, Any] | str) -> dict[str, Any]:
    if isinstance(options, str):
        try:
            options = dict(json.loads(options))
        except (ValueError, TypeError) as error:
            raise ValueError(
                "model_options: expected a JSON object such as '{\"features\": 64}', "
                f"got {options!r} ({error})"
            ) from error
    return {name: _hashable(value) for name, value in options.items()}


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return FrozenDict({name: _hashable(each) for name, each in value.items()})
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class _Make:
    """Make an NNX module; equal for equal arguments."""

    module: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, rngs: nnx.Rngs) -> Any:
        return self.module(**dict(self.options), rngs=rngs)


def _maker(path: str) -> Callable[..., Any]:
    make = import_object("model", path)
    if not callable(make) or isinstance(make, nn.Module | nnx.Module):
        raise ValueError(
            f"model: expected {path!r} to be a class or a function that returns a "
            f"module, got a value of type {type(make).__name__}"
        )
    return make


def _own(path: str, options: dict[str, Any], dataset: Dataset, dtype: Any) -> Any:
    make = _maker(path)
    # Of a class its initialiser: NNX's metaclass hides it.
    called = make.__init__ if inspect.isclass(make) else make
    parameters = inspect.signature(called).parameters
    filled = {"classes": dataset.classes, "num_classes": dataset.classes}
    filled |= {} if dtype is None else {"dtype": dtype}
    options = {n: v for n, v in filled.items() if n in parameters} | options
    try:
        if "rngs" in parameters:
            made = _Make(make, tuple(sorted(options.items())))
            nnx.eval_shape(lambda: made(nnx.Rngs(0)))
        else:
            made = make(**options)
        network(made)
    except Exception as error:  # your code may raise anything
        raise ValueError(
            f"model_options: {path!r} cannot be made with {options}: {described(error)}"
        ) from error
    return made


def _check_fits(name: str, model: Any, dataset: Dataset) -> None:
    """Raise if the model cannot read the dataset or gives other logits."""
    inputs = dataset.train.inputs[:2]
    given = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
    functions, key, doing = network(model), jax.random.key(0), "read"
    try:
        variables = jax.eval_shape(functions.init, key, given)
        logits = jax.eval_shape(functions.apply, variables, given)
        if is_import_path(name):
            doing = "train on"
            jax.eval_shape(functions.train, variables, given, key)
    except Exception as error:  # your code, or Flax, may raise anything
        raise ValueError(
            f"model: {name!r} cannot {doing} inputs of shape {inputs.shape} of dataset "
            f"{dataset.name!r}: {described(error)}"
        ) from error
    expected = (*dataset.train.targets[:2].shape, dataset.classes)
    if getattr(logits, "shape", None) != expected:
        raise ValueError(
            f"model: expected logits of shape {expected} for dataset "
            f"{dataset.name!r}, got {getattr(logits, 'shape', logits)} from {name!r}"
        )
