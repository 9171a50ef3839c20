"""Weights of networks on disk: those published from PyTorch, and our own.

A file is in the safetensors format or a NumPy archive (`.npz`); which of the two, its
content tells. The names in it are either Flax's, as `save` writes them::

    params/conv1/kernel   params/conv1/bias   batch_stats/bn1/mean   ...

or those of a PyTorch state dict, in PyTorch's layouts (kernels out × in × height ×
width, dense weights out × in), for the two networks that are published so::

    Tiny10            conv1 to conv8, bn1 to bn8, fc
    ResNet, "batch"   conv1, bn1, layer1.0.conv1, layer1.0.bn1, layer1.0.conv2,
                      layer1.0.bn2, layer2.0.shortcut.0 (convolution),
                      layer2.0.shortcut.1 (norm), ..., linear

each with `.weight`, `.bias` and for norms `.running_mean`, `.running_var`. Also read:
`downsample` for `shortcut`, `fc` for `linear`, `module.` before every name, and
residual networks whose shortcuts have no weights (option A). `num_batches_tracked` is
ignored. Pickles, such as PyTorch's own `.pt` files, are refused: they can run code.
"""

from ._archive import WeightsError
from ._load import load, save
from ._pytorch import from_pytorch, to_pytorch

__all__ = ["WeightsError", "from_pytorch", "load", "save", "to_pytorch"]
