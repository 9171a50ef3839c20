"""The published networks in NumPy, straight from their PyTorch state dicts.

Channels first, one image at a time, in float64: a second implementation that shares
nothing with ours but the definition.
"""

import numpy as np
from numpy.typing import DTypeLike


def convolve(state, name, x, stride=1, padding=0):
    """Cross-correlate (in, height, width) with a kernel (out, in, height, width)."""
    kernel = state[f"{name}.weight"]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (1, 2))
    y = np.einsum("ihwab,oiab->ohw", windows[:, ::stride, ::stride], kernel)
    return y + state.get(f"{name}.bias", np.zeros(len(y)))[:, None, None]


def normalise(state, name, x):
    """BatchNorm by its running statistics."""
    scale, shift, mean, variance = (
        state[f"{name}.{leaf}"][:, None, None]
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return scale * (x - mean) / np.sqrt(variance + 1e-5) + shift


def relu(x):
    return np.maximum(x, 0)


def dense(state, name, x):
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def tiny10(state, x):
    """Logits of an image (3, height, width)."""
    for i in range(1, 9):
        x = convolve(state, f"conv{i}", x, stride=2 if i in (3, 6) else 1)
        x = relu(normalise(state, f"bn{i}", x))
    return dense(state, "fc", x.mean(axis=(1, 2)))


def resnet(state, x, blocks):
    """Logits of an image (3, height, width); shortcuts as the state has them."""
    x = relu(normalise(state, "bn1", convolve(state, "conv1", x, padding=1)))
    for stage in range(3):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = convolve(state, f"{name}.conv1", x, stride, padding=1)
            y = relu(normalise(state, f"{name}.bn1", y))
            y = convolve(state, f"{name}.conv2", y, padding=1)
            y = normalise(state, f"{name}.bn2", y)
            x = relu(y + shortcut(state, name, x, stride))
    return dense(state, "linear", x.mean(axis=(1, 2)))


def shortcut(state, name, x, stride):
    if stride == 1:
        return x
    if f"{name}.shortcut.0.weight" in state:
        x = convolve(state, f"{name}.shortcut.0", x, stride)
        return normalise(state, f"{name}.shortcut.1", x)
    # Option A: half as many channels of zeros as there are, on either side.
    zeros = len(x) // 2
    return np.pad(x[:, ::stride, ::stride], ((zeros, zeros), (0, 0), (0, 0)))


def tiny10_shapes():
    """Names and shapes of the state dict of Tiny-10."""
    shapes, channels = {}, (3, 16, 16, 32, 32, 32, 64, 64, 64)
    for i in range(1, 9):
        size = 1 if i == 8 else 3
        shapes[f"conv{i}.weight"] = (channels[i], channels[i - 1], size, size)
        shapes[f"conv{i}.bias"] = (channels[i],)
        shapes |= norm_shapes(f"bn{i}", channels[i])
    return shapes | {"fc.weight": (10, 64), "fc.bias": (10,)}


def resnet_shapes(blocks, shortcuts):
    """Names and shapes of a residual network's, with weights in shortcuts or not."""
    shapes = {"conv1.weight": (16, 3, 3, 3)} | norm_shapes("bn1", 16)
    channels = 16
    for stage in range(3):
        for block in range(blocks):
            name, width = f"layer{stage + 1}.{block}", 16 * 2**stage
            shapes[f"{name}.conv1.weight"] = (width, channels, 3, 3)
            shapes |= norm_shapes(f"{name}.bn1", width)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            shapes |= norm_shapes(f"{name}.bn2", width)
            if shortcuts and width != channels:
                shapes[f"{name}.shortcut.0.weight"] = (width, channels, 1, 1)
                shapes |= norm_shapes(f"{name}.shortcut.1", width)
            channels = width
    return shapes | {"linear.weight": (10, 64), "linear.bias": (10,)}


def norm_shapes(name, width):
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (width,) for leaf in leaves}


def random_state(shapes, dtype: DTypeLike = np.float32, seed=0):
    """Arrays of these shapes: variances positive, kernels scaled by their fan-in."""
    random = np.random.default_rng(seed)

    def draw(name, shape):
        values = random.normal(size=shape)
        if name.endswith("running_var"):
            return 0.5 + values**2
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
        return values * np.sqrt(2 / fan_in)

    return {name: draw(name, shape).astype(dtype) for name, shape in shapes.items()}
