"""The networks that are trained: Flax Linen modules that map inputs to logits."""

from ._build import NAMES, build
from ._cnn import CNN
from ._mlp import MLP
from ._network import Network, network
from ._resnet import ResNet
from ._tiny10 import Tiny10
from ._transformer import CharTransformer, ViT
from ._vgg import VGG

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
    "network",
]
