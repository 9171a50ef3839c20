"""The networks that are combined."""

import flax.linen as nn

from benchmarks import models
from benchmarks._precision import module_dtype
from benchmarks.combinability._config import Config
from benchmarks.networks import Training


def training_of(config: Config) -> Training:
    """How the networks of one width are trained."""
    return Training(
        config.networks,
        config.steps,
        config.batch_size,
        config.learning_rate,
        config.rows,
        config.seed,
    )


def network(config: Config, width: int, classes: int) -> nn.Module:
    """The module of one width."""
    dtype = module_dtype(config.dtype)
    if config.model == "mlp":
        return models.MLP(classes, features=(width,) * 3, dtype=dtype)
    if config.model == "tiny10":
        return models.Tiny10(classes, dtype=dtype)
    norm = "layer" if config.model == "resnet20_layernorm" else "batch"
    return models.ResNet(classes, width=width, norm=norm, dtype=dtype)
