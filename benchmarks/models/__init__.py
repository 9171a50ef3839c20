"""The networks that are trained: Flax Linen modules that map inputs to logits.

In all of them `dtype` is what all layers but the last compute in; by default that of
inputs and variables.
"""

from benchmarks.models._build import NAMES, build, check
from benchmarks.models._images import CNN, MLP, VGG, ResNet
from benchmarks.models._network import Network, network
from benchmarks.models._tiny10 import Tiny10
from benchmarks.models._transformer import CharTransformer, ViT

__all__ = [
    "CNN",
    "MLP",
    "NAMES",
    "VGG",
    "CharTransformer",
    "Network",
    "ResNet",
    "Tiny10",
    "ViT",
    "build",
    "check",
    "network",
]
