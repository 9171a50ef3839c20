"""Weights on disk: published networks compute what they did, and come back whole."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, traverse_util
from flax.training import train_state
from safetensors.numpy import save_file

from benchmarks import data, models, weights
from tests.benchmarks.pytorch_networks import (
    random_state,
    resnet,
    resnet_shapes,
    tiny10,
    tiny10_shapes,
)

COLOUR = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
TINY10, RESNET = models.Tiny10(), models.ResNet(10, depth=8)
MLP, ROW = models.MLP(3, features=(4,)), jax.ShapeDtypeStruct((1, 5), jnp.float32)
PUBLISHED = {
    "tiny10": (TINY10, tiny10_shapes()),
    "resnet": (RESNET, resnet_shapes(1, shortcuts=True)),
}

published = pytest.mark.parametrize("name", PUBLISHED)


def state_of(name, dtype=np.float32):
    module, shapes = PUBLISHED[name]
    return module, random_state(shapes, dtype)


def mlp_variables(dtype=np.float32):
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(MLP.init, jax.random.key(0), ROW)
    return jax.tree.map(lambda s: random.normal(size=s.shape).astype(dtype), shapes)


def assert_same(got, wanted):
    """Bit for bit, with the same names, shapes and dtypes."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


# What the networks compute.


@pytest.mark.parametrize("shortcuts", [True, False], ids=["option B", "option A"])
def test_a_residual_network_computes_what_its_state_dict_says(shortcuts, x64):
    state = random_state(resnet_shapes(1, shortcuts), np.float64)
    images = np.random.default_rng(1).normal(size=(2, 3, 12, 12))
    variables = weights.from_pytorch(state, RESNET, COLOUR)
    logits = jax.jit(RESNET.apply)(variables, images.transpose(0, 2, 3, 1))
    expected = [resnet(state, image, blocks=1) for image in images]
    np.testing.assert_allclose(logits, expected, rtol=1e-6 if not shortcuts else 1e-9)


def test_tiny10_computes_what_its_state_dict_says(x64):
    state = random_state(tiny10_shapes(), np.float64)
    images = np.random.default_rng(1).normal(size=(2, 3, 32, 32))
    variables = weights.from_pytorch(state, TINY10, COLOUR)
    logits = jax.jit(TINY10.apply)(variables, images.transpose(0, 2, 3, 1))
    expected = [tiny10(state, image) for image in images]
    np.testing.assert_allclose(logits, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("shortcuts", [True, False], ids=["option B", "option A"])
def test_pytorch_computes_the_same_residual_network(shortcuts):
    torch = pytest.importorskip("torch")
    state = random_state(resnet_shapes(3, shortcuts))
    network = torch_resnet(torch, blocks=3, shortcuts=shortcuts)
    assert_agrees_with_pytorch(torch, network, state, models.ResNet(10))


@pytest.mark.slow
def test_pytorch_computes_the_same_tiny10():
    torch = pytest.importorskip("torch")
    state = random_state(tiny10_shapes())
    assert_agrees_with_pytorch(torch, torch_tiny10(torch), state, TINY10)


def assert_agrees_with_pytorch(torch, network, state, module):
    # Strict: our names are exactly PyTorch's, but for the counters.
    counters = {n for n in network.state_dict() if n.endswith("num_batches_tracked")}
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    loaded = network.load_state_dict(tensors, strict=False)
    assert set(loaded.missing_keys) <= counters
    assert not loaded.unexpected_keys
    network.eval()
    images = np.random.default_rng(1).normal(size=(8, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    variables = weights.from_pytorch(arrays, module, COLOUR)
    logits = jax.jit(module.apply)(variables, images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def torch_tiny10(torch):
    nn = torch.nn
    channels = (3, 16, 16, 32, 32, 32, 64, 64, 64)

    class Tiny10(nn.Module):
        def __init__(self):
            super().__init__()
            for i in range(1, 9):
                size, stride = (1 if i == 8 else 3), (2 if i in (3, 6) else 1)
                layer = nn.Conv2d(channels[i - 1], channels[i], size, stride)
                setattr(self, f"conv{i}", layer)
                setattr(self, f"bn{i}", nn.BatchNorm2d(channels[i]))
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            for i in range(1, 9):
                x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)).relu()
            return self.fc(x.mean((2, 3)))

    return Tiny10()


def torch_resnet(torch, blocks, shortcuts):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.stride = stride
            if shortcuts and stride > 1:
                convolution = nn.Conv2d(before, width, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(width))

        def around(self, x):
            if self.stride == 1:
                return x
            if shortcuts:
                return self.shortcut(x)
            zeros = x.shape[1] // 2
            x = x[:, :, :: self.stride, :: self.stride]
            return nn.functional.pad(x, (0, 0, 0, 0, zeros, zeros))

        def forward(self, x):
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (y + self.around(x)).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            before = 16
            for stage in range(3):
                width, layers = 16 * 2**stage, []
                for block in range(blocks):
                    stride = 2 if stage > 0 and block == 0 else 1
                    layers.append(Block(before, width, stride))
                    before = width
                setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = self.bn1(self.conv1(x)).relu()
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    return ResNet()


# The networks that were published with the stitching paper, where they lie.

BESIDE = Path(__file__).parents[2].parent / "shared" / "data"
ACCURACIES = (78.0, 77.8, 78.0, 77.5, 77.6, 78.3, 76.7, 77.5, 78.0, 77.5)


def where_published():
    for folder in (os.environ.get("BENCHMARKS_DATA"), BESIDE):
        if folder and (Path(folder) / "tiny10" / "seed0.npz").is_file():
            return Path(folder)
    pytest.skip(f"no tiny10/seed0.npz in BENCHMARKS_DATA nor in {BESIDE}")


@pytest.mark.slow
def test_the_published_tiny10_networks_reach_their_accuracies():
    folder = where_published()
    try:
        dataset = data.load("cifar10", folder, download=False)
    except data.DataError as error:
        pytest.skip(f"no CIFAR-10 beside the networks: {error}")
    apply = jax.jit(TINY10.apply)
    batches = [
        (dataset.test.inputs[i : i + 1000], dataset.test.targets[i : i + 1000])
        for i in range(0, 10_000, 1000)
    ]
    for seed, accuracy in enumerate(ACCURACIES):
        path = folder / "tiny10" / f"seed{seed}.npz"
        variables = weights.load(path, TINY10, COLOUR)
        hits = [(apply(variables, x).argmax(-1) == y).mean() for x, y in batches]
        # The accuracies are rounded to one decimal; an image is 0.01.
        assert 100 * np.mean(hits) == pytest.approx(accuracy, abs=0.06), seed


# Files.


@published
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_state_dict_is_read_from_either_format(name, suffix, tmp_path):
    module, state = state_of(name)
    path = tmp_path / f"published.{suffix}"
    if suffix == "npz":
        np.savez(path, **state)
    else:
        save_file(state, path)
    got = weights.load(path, module, COLOUR)
    assert_same(got, weights.from_pytorch(state, module, COLOUR))


@published
def test_a_state_dict_makes_the_variables_that_the_module_initialises(name):
    module, state = state_of(name)
    got = weights.from_pytorch(state, module, COLOUR)
    expected = jax.eval_shape(module.init, jax.random.key(0), COLOUR)
    assert jax.tree.map(np.shape, got) == jax.tree.map(np.shape, expected)


@published
def test_a_state_dict_comes_back_unchanged(name, path):
    module, state = state_of(name)
    variables = weights.from_pytorch(state, module, COLOUR)
    assert_same(weights.to_pytorch(variables, module), state)
    weights.save(path, weights.to_pytorch(variables, module))
    assert_same(weights.load(path, module, COLOUR), variables)


def test_other_names_of_the_same_layers_are_read():
    _, state = state_of("resnet")
    expected = weights.from_pytorch(state, RESNET, COLOUR)
    renamed = {
        "module."
        + name.replace("shortcut", "downsample").replace("linear", "fc"): array
        for name, array in state.items()
    }
    renamed["module.bn1.num_batches_tracked"] = np.asarray(7)
    assert_same(weights.from_pytorch(renamed, RESNET, COLOUR), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_variables_come_back_bit_by_bit_in_their_own_dtype(dtype, path):
    variables = mlp_variables(dtype)
    weights.save(path, variables)
    assert_same(weights.load(path, MLP, ROW), variables)


def test_variables_of_jax_with_statistics_come_back(path):
    shapes = jax.eval_shape(RESNET.init, jax.random.key(0), COLOUR)
    variables = jax.tree.map(lambda s: jnp.full(s.shape, 2, s.dtype), shapes)
    weights.save(path, variables)
    assert_same(weights.load(path, RESNET, COLOUR), variables)


def test_arrays_that_do_not_lie_in_order_are_written_in_order(path):
    variables = mlp_variables()
    variables["params"]["Dense_0"]["kernel"] = np.asfortranarray(
        variables["params"]["Dense_0"]["kernel"]
    )
    weights.save(path, variables)
    assert_same(weights.load(path, MLP, ROW), variables)


def test_a_file_names_arrays_by_their_paths_and_holds_nothing_else(path):
    weights.save(path, mlp_variables())
    header = read_header(path.read_bytes())
    assert sorted(header) == [
        f"params/Dense_{i}/{leaf}" for i in (0, 1) for leaf in ("bias", "kernel")
    ]


def read_header(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])


# What is rejected.


def spoil_names(state):
    state["bn3.wieght"] = state.pop("bn3.weight")
    return state


def spoil_shape(state):
    return state | {"conv1.weight": np.zeros((16, 3, 5, 5), np.float32)}


def spoil_layout(state):
    return state | {"fc.weight": state["fc.weight"].T}


def spoil_numbers(state):
    return state | {"fc.bias": np.zeros(10, np.int32)}


def add_layer(state):
    return state | {"conv9.weight": np.zeros(3, np.float32)}


def other_network(_):
    return random_state(resnet_shapes(1, shortcuts=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_names, r"'bn3.weight' is missing; 'bn3.wieght' is unexpected"),
        (spoil_shape, r"'conv1.weight' is float32\[16, 3, 5, 5\], expected .*3, 3\]"),
        (spoil_layout, r"'fc.weight' is float32\[64, 10\], expected float32\[10, 64\]"),
        (spoil_numbers, r"'fc.bias' is int32\[10\], expected float32\[10\]"),
        (add_layer, r"'conv9.weight' is unexpected"),
        (other_network, r"weights of another network: .* is missing.* \d+ more such"),
        (lambda _: {}, r"'bn1.bias' is missing"),
    ],
)
def test_a_state_dict_of_another_network_is_rejected(spoil, message, path):
    _, state = state_of("tiny10")
    save_file({n: np.ascontiguousarray(a) for n, a in spoil(state).items()}, path)
    with pytest.raises(weights.WeightsError, match=message) as caught:
        weights.load(path, TINY10, COLOUR)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_shortcut_that_lacks_only_some_of_its_weights_is_rejected():
    _, state = state_of("resnet")
    del state["layer2.0.shortcut.0.weight"]
    with pytest.raises(weights.WeightsError, match=r"'layer2.0.shortcut.0.weight' is"):
        weights.from_pytorch(state, RESNET, COLOUR)


def test_variables_of_another_network_are_rejected(path):
    weights.save(path, mlp_variables())
    with pytest.raises(weights.WeightsError, match=r"Dense_2/kernel' is missing"):
        weights.load(path, models.MLP(3, features=(4, 4)), ROW)
    with pytest.raises(weights.WeightsError, match=r"float32\[4, 3\], expected .*4, 7"):
        weights.load(path, models.MLP(7, features=(4,)), ROW)


@pytest.mark.parametrize("module", [MLP, models.ResNet(10, norm="layer")])
def test_a_network_that_is_not_published_in_pytorch_is_rejected(module, path):
    _, state = state_of("tiny10")
    save_file(state, path)
    with pytest.raises(weights.WeightsError, match="expected Tiny10 or ResNet with"):
        weights.load(path, module, ROW if module is MLP else COLOUR)
    with pytest.raises(ValueError, match="expected Tiny10 or ResNet with"):
        weights.to_pytorch(mlp_variables(), module)


def test_variables_of_another_network_make_no_state_dict():
    with pytest.raises(weights.WeightsError, match="'params/Dense_0/bias', which Tiny"):
        weights.to_pytorch(mlp_variables(), TINY10)


# Files that cannot be used, and other formats.


def test_orbax_checkpoints_are_read(tmp_path):
    variables = mlp_variables()
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "whole", variables)
        writer.save(tmp_path / "params", variables["params"])
    with ocp.CheckpointManager(tmp_path / "managed") as manager:
        manager.save(3, args=ocp.args.StandardSave(variables))
    for name in ("whole", "params", "managed"):
        found = weights.load(tmp_path / name, MLP, ROW)
        jax.tree.map(np.testing.assert_array_equal, found, variables)
    (tmp_path / "empty").mkdir()
    with pytest.raises(weights.WeightsError, match="empty: not an Orbax checkpoint"):
        weights.load(tmp_path / "empty", MLP, ROW)


WRITES_FROM_ITS_DEVICES = """
import sys, jax, orbax.checkpoint as ocp
from pathlib import Path
from jax.sharding import NamedSharding, PartitionSpec

rows = NamedSharding(jax.make_mesh((16,), ("rows",)), PartitionSpec("rows"))
with ocp.StandardCheckpointer() as writer:
    kernel = jax.device_put(jax.numpy.arange(16.0), rows)
    writer.save(Path(sys.argv[1]), {"kernel": kernel})
"""


def test_orbax_checkpoints_from_more_devices_are_read(tmp_path):
    flags = "--xla_force_host_platform_device_count=16"
    subprocess.run(
        [sys.executable, "-c", WRITES_FROM_ITS_DEVICES, str(tmp_path / "saved")],
        env={**os.environ, "XLA_FLAGS": flags},
        check=True,
    )
    read = weights._read_orbax(tmp_path / "saved")["kernel"]
    assert isinstance(read, np.ndarray)
    assert read.tolist() == list(range(16))


class StateWithStatistics(train_state.TrainState):
    batch_stats: Any


def test_of_a_training_state_the_variables_are_read(tmp_path):
    module = models.ResNet(3, width=1, depth=8, norm="batch")
    variables: Any = module.init(jax.random.key(0), jnp.ones(COLOUR.shape))
    state = StateWithStatistics.create(
        apply_fn=module.apply, tx=optax.adam(0.1), **variables
    )
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "state", state)
        params = mlp_variables()["params"]
        writer.save(tmp_path / "other", state.replace(params=params))
    found = weights.load(tmp_path / "state", module, COLOUR)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    with pytest.raises(weights.WeightsError, match=r"'batch_stats/.*' is unexpected"):
        weights.load(tmp_path / "other", MLP, ROW)


class Dropping(nnx.Module):
    """An NNX network with a list of layers, statistics and keys."""

    def __init__(self, rngs):
        self.layers = nnx.List(nnx.Linear(5, 5, rngs=rngs) for _ in range(11))
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.value = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.value(self.dropout(self.norm(x)))


@pytest.mark.parametrize("form", [lambda state: state, nnx.to_pure_dict])
def test_the_state_of_an_nnx_module_is_read(form, tmp_path):
    module = Dropping(nnx.Rngs(3))
    module.norm.mean[...] = jnp.arange(5.0)
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "state", form(nnx.state(module)))
    found = weights.load(tmp_path / "state", Dropping, ROW)
    x = jnp.linspace(-1, 1, 10).reshape(2, 5)
    logits = models.network(Dropping).apply(found, x)
    expected = nnx.view(module, deterministic=True, use_running_average=True)(x)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_parameters_alone_are_read_by_their_paths(tmp_path):
    params: Any = mlp_variables()["params"]
    path = tmp_path / "mlp.safetensors"
    flat: Any = traverse_util.flatten_dict(params, sep="/")
    save_file(flat, path)
    found = weights.load(path, MLP, ROW)
    jax.tree.map(np.testing.assert_array_equal, found, {"params": params})
    save_file({"x/y": params["Dense_0"]["kernel"]}, path)
    with pytest.raises(weights.WeightsError, match="'x/y' is unexpected"):
        weights.load(path, MLP, ROW)


def test_your_own_function_reads_the_rest(tmp_path):
    variables = mlp_variables()
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(variables))

    def mapping(path):
        return pickle.loads(Path(path).read_bytes())

    (found,) = weights.load_all(tmp_path / "file.pkl", MLP, ROW, mapping)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_several_networks_come_back_from_one_file(suffix, tmp_path):
    networks = [jax.tree.map(lambda x, i=i: x + i, mlp_variables()) for i in range(11)]
    weights.save_networks(tmp_path / f"kept.{suffix}", networks)
    found = weights.load_all(tmp_path / f"kept.{suffix}", MLP, ROW)
    jax.tree.map(np.testing.assert_array_equal, found, networks)
    with pytest.raises(weights.WeightsError, match="expected one network, got 11"):
        weights.load(tmp_path / f"kept.{suffix}", MLP, ROW)
