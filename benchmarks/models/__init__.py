"""The networks that are trained: Flax Linen modules that map inputs to logits."""

from benchmarks.models._build import NAMES, build, check
from benchmarks.models._cnn import CNN
from benchmarks.models._mlp import MLP
from benchmarks.models._network import Network, network
from benchmarks.models._resnet import ResNet
from benchmarks.models._tiny10 import Tiny10
from benchmarks.models._transformer import CharTransformer, ViT
from benchmarks.models._vgg import VGG

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
