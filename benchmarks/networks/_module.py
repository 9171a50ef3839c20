"""The module that networks are variables of, by its name and width."""

from flax import linen as nn

from benchmarks import data, models
from benchmarks._precision import Dtype, module_dtype


def module_of(
    model: str, width: int | None, dataset: data.Dataset, dtype: Dtype = "float32"
) -> nn.Module:
    """A model for a dataset, as wide as an experiment asks.

    Args:
      model: Its name, of `benchmarks.models.NAMES`.
      width: Hidden units of each of an MLP's three hidden layers, or multiplier of a
        ResNet's channels; other models have one size. None for `models.build`'s own.
      dataset: What it classifies.
      dtype: What all layers but the last compute in.
    """
    computed = module_dtype(dtype)
    if width is not None and model == "mlp":
        return models.MLP(dataset.classes, features=(width,) * 3, dtype=computed)
    if width is not None and model in ("resnet20", "resnet20_layernorm"):
        norm = "layer" if model == "resnet20_layernorm" else "batch"
        return models.ResNet(dataset.classes, width=width, norm=norm, dtype=computed)
    return models.build(model, dataset, computed)
