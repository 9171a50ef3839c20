"""What PyTorch's state dicts call the layers of the published networks."""

from flax import linen as nn

from ..models import ResNet, Tiny10


def pytorch_layers(module: nn.Module) -> dict[str, str]:
    """The name in PyTorch of each Flax layer of a published network.

    Raises:
      ValueError: no network like the module is published in PyTorch.
    """
    if isinstance(module, Tiny10):
        return _tiny10()
    if isinstance(module, ResNet) and module.norm == "batch":
        return _resnet(module.depth)
    raise ValueError(
        f"module is {type(module).__name__}, expected Tiny10 or ResNet with "
        "norm='batch', whose names in PyTorch are known; others are read by Flax's "
        "names, such as 'params/Dense_0/kernel'"
    )


def _tiny10() -> dict[str, str]:
    numbered = [f"{kind}{i}" for i in range(1, 9) for kind in ("conv", "bn")]
    return {name: name for name in [*numbered, "fc"]}


def _resnet(depth: int) -> dict[str, str]:
    blocks = (depth - 2) // 6
    layers = {"Conv_0": "conv1", "BatchNorm_0": "bn1", "Dense_0": "linear"}
    for i in range(3 * blocks):
        stage, block = divmod(i, blocks)
        ours, theirs = f"_Block_{i}", f"layer{stage + 1}.{block}"
        for j in range(2):
            layers[f"{ours}/Conv_{j}"] = f"{theirs}.conv{j + 1}"
            layers[f"{ours}/BatchNorm_{j}"] = f"{theirs}.bn{j + 1}"
        if stage > 0 and block == 0:
            layers[f"{ours}/Conv_2"] = f"{theirs}.shortcut.0"
            layers[f"{ours}/BatchNorm_2"] = f"{theirs}.shortcut.1"
    return layers
