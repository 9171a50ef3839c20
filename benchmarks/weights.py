"""Weights of networks on disk: our own, those published from PyTorch, and yours.

A file is in the safetensors format or a NumPy archive (`.npz`). The names in it are
either Flax's, as `save` writes them::

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
ignored. A folder is an Orbax checkpoint of a network's variables or parameters, of a
Flax `TrainState` (statistics under `batch_stats`), or of the state of an NNX module.
Any other format is read by your own function: `mapping`.
"""

import io
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from benchmarks._options import import_object
from benchmarks.data._load import Folder, find_file
from benchmarks.models import ResNet, Tiny10, network
from benchmarks.runs import write_atomically

# How many names an error lists.
_LISTED = 6
# Flax's name of a leaf in its layer, and PyTorch's.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# With epsilon, the variance is one.
_COPYING_NORM = {
    "weight": 1.0,
    "bias": 0.0,
    "running_mean": 0.0,
    "running_var": 1.0 - 1e-5,
}

Variables = dict[str, Any]


class WeightsError(ValueError):
    """A file of weights that is missing, damaged, or of another network."""


def save(path: str | os.PathLike[str], variables: Mapping[str, Any]) -> None:
    """Write variables as a safetensors file or NumPy archive, complete or not at all.

    Arrays keep their dtype, bfloat16 too, and are named by their paths, joined by
    slashes. What `to_pytorch` returns is written by its names.

    Args:
        path: the file; a name that ends in `.npz` makes it a NumPy archive.
        variables: nested dicts of arrays.
    """
    arrays = {n: np.require(x, None, "C") for n, x in _named(variables).items()}
    path = Path(path)
    if path.suffix == ".npz":
        file = io.BytesIO()
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        content = file.getvalue()
    else:
        content = safetensors.numpy.save(arrays)
    write_atomically(path, content)


def save_networks(path: Path, networks: Sequence[Any]) -> None:
    """Write the variables of several networks to one file, as `load_all` reads them."""
    save(path, {str(number): variables for number, variables in enumerate(networks)})


def load(path: str | os.PathLike[str], module: Any, inputs: Any) -> Variables:
    """Load the variables of a network.

    Args:
        path: a safetensors file, NumPy archive or Orbax checkpoint; see
            `benchmarks.weights`.
        module: the network, what `benchmarks.models.network` accepts. PyTorch's names
            are known for `Tiny10` and for `ResNet` with BatchNorm.
        inputs: an example of its inputs, or its shape as a `jax.ShapeDtypeStruct`.

    Returns:
        The variables, of the dtypes in the file.

    Raises:
        WeightsError: if the file is missing or damaged, or of another network.

    Example:
        >>> import tempfile, jax, jax.numpy as jnp
        >>> from benchmarks import models, weights
        >>> module, x = models.MLP(classes=3), jnp.ones((1, 4))
        >>> variables = module.init(jax.random.key(0), x)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     weights.save(f"{folder}/mlp.safetensors", variables)
        ...     again = weights.load(f"{folder}/mlp.safetensors", module, x)
        >>> bool((module.apply(again, x) == module.apply(variables, x)).all())
        True
    """
    found = load_all(path, module, inputs)
    if len(found) > 1:
        raise WeightsError(f"{path}: expected one network, got {len(found)}")
    return found[0]


def load_all(
    path: str | os.PathLike[str],
    module: Any,
    inputs: Any,
    mapping: Callable[[str], Any] | None = None,
) -> list[Variables]:
    """Load the variables of the networks in a file, one or several.

    Args:
        path: as for `load`, or what `save_networks` wrote.
        module: as for `load`.
        inputs: as for `load`.
        mapping: reads the file instead: `mapping(path)` returns nested dicts of arrays
            with the structure that the module initialises.

    Raises:
        WeightsError: as `load`.
    """
    path = Path(path)
    like = jax.eval_shape(network(module).init, jax.random.key(0), inputs)
    try:
        if mapping is not None:
            return [_placed(_named(mapping(str(path))), like)]
        if path.is_dir():
            return [_placed(_picked(_read_orbax(path), _named(like)), like)]
        arrays = _read(path)
        if arrays and all(name.split("/")[0].isdecimal() for name in arrays):
            each = traverse_util.unflatten_dict(arrays, sep="/")
            return [_placed(_named(each[n]), like) for n in sorted(each, key=int)]
        if any("/" in name for name in arrays):
            return [_placed(_picked(arrays, _named(like)), like)]
        return [from_pytorch(arrays, module, inputs)]
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def read_networks(
    paths: Iterable[str],
    module: Any,
    inputs: Any,
    directory: Folder = None,
    mapping: str | None = None,
) -> list[Variables]:
    """Load all networks of several files."""
    read = None if mapping is None else import_object("weights_mapping", mapping)
    places = [find_file("weights", name, directory) for name in paths]
    found = [load_all(place, module, inputs, read) for place in places]
    return [jax.tree.map(jnp.asarray, one) for several in found for one in several]


def check_files(
    paths: Iterable[str], directory: Folder = None, mapping: str | None = None
) -> None:
    """Raise early if files are missing or of an unknown kind."""
    if mapping is not None:
        import_object("weights_mapping", mapping)
    for name in paths:
        path = find_file("weights", name, directory)
        if mapping is None and path.is_file():
            _check_suffix(path)


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".safetensors", ".npz"):
        raise WeightsError(
            "weights: expected a .safetensors or .npz file or an Orbax folder, got "
            f"'{path}'. Write a PyTorch state dict with safetensors.torch.save_file, "
            "or read the file by a function of your own, --weights-mapping"
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise WeightsError("there is no such file")
    _check_suffix(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise WeightsError(f"damaged, or of another format: {error}") from error


def _read_orbax(path: Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp  # takes long to import

    path = path.absolute()
    steps = [each for each in path.iterdir() if each.name.isdecimal()]
    if steps:  # of a checkpoint manager
        path = max(steps, key=lambda step: int(step.name))
    if (path / "default").is_dir():
        path = path / "default"
    try:
        with ocp.PyTreeCheckpointer() as reader:
            listed = reader.metadata(path).item_metadata
            if listed is None:
                raise WeightsError("the list of its arrays cannot be read")
            # NumPy arrays need no devices like those that they were saved from.
            one = ocp.RestoreArgs(restore_type=np.ndarray)
            as_numpy = jax.tree.map(lambda _: one, listed.tree)
            return _named(reader.restore(path, restore_args=as_numpy))
    except Exception as error:  # Orbax raises many kinds
        cause = textwrap.shorten(str(error), 300)
        raise WeightsError(f"not an Orbax checkpoint, or damaged: {cause}") from error


def _picked(found: Mapping[str, Any], expected: Iterable[str]) -> dict[str, Any]:
    """The arrays of a file that are a network's, by its names.

    A training state has others beside them. Parameters alone, and the state of an NNX
    module, are not divided into collections.
    """
    collections = {name: name.partition("/")[0] for name in found}
    if "params" in collections.values():
        if not {"step", "opt_state"} & set(collections.values()):
            return dict(found)
        own = {"batch_stats", *(name.partition("/")[0] for name in expected)}
        return {name: x for name, x in found.items() if collections[name] in own}
    # Where two collections have the same place, the parameters' one.
    places = sorted(expected, key=lambda name: name.startswith("params/"))
    place = {name.partition("/")[2]: name for name in places}
    # Orbax calls the array of an NNX variable its `value`.
    plain = {n if n in place else n.removesuffix("/value"): found[n] for n in found}
    return {place.get(name, name): x for name, x in plain.items()}


def _named(tree: Any) -> dict[str, Any]:
    """All leaves of nested dicts, by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in p): x for p, x in leaves}


def _placed(found: Mapping[str, Any], like: Any) -> Variables:
    """Named arrays in the structure of variables."""
    expected = _named(like)
    _check(found, expected)
    structure = jax.tree.structure(like)
    return jax.tree.unflatten(structure, [found[name] for name in expected])


def _check(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise if names, shapes or kinds of number are not those expected."""

    def described(array: Any) -> str:
        return f"{array.dtype}{list(array.shape)}"

    def fits(array: Any, wanted: Any) -> bool:
        # Any precision will do, but integers are not weights.
        kinds = {jnp.issubdtype(a.dtype, jnp.floating) for a in (array, wanted)}
        return array.shape == wanted.shape and len(kinds) == 1

    wrong = [f"{name!r} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{n!r} is unexpected" for n in sorted(found.keys() - expected.keys())]
    wrong += [
        f"{name!r} is {described(found[name])}, expected {described(leaf)}"
        for name, leaf in expected.items()
        if name in found and not fits(found[name], leaf)
    ]
    if wrong:
        more = [f"{len(wrong) - _LISTED} more such"] if len(wrong) > _LISTED else []
        listed = "; ".join([*wrong[:_LISTED], *more])
        raise WeightsError(f"weights of another network: {listed}")


def from_pytorch(state: Mapping[str, Any], module: Any, inputs: Any) -> Variables:
    """Make Flax variables of a PyTorch state dict.

    Args:
        state: arrays by PyTorch's names, in PyTorch's layouts.
        module: the network, a `Tiny10` or a `ResNet` with BatchNorm.
        inputs: an example of its inputs, or its shape.

    Raises:
        WeightsError: if names or shapes are not those of the network, or its names in
            PyTorch are not known.
    """
    like = jax.eval_shape(network(module).init, jax.random.key(0), inputs)
    leaves = _named(like)
    names = _pytorch_names(module, leaves, state)
    wanted = {names[n]: jax.eval_shape(_to_pytorch, x) for n, x in leaves.items()}
    found = _usual_names(state, module)
    if not any(".shortcut." in name for name in found):
        found |= _copying_shortcuts(wanted)
    _check(found, wanted)
    return _placed({ours: _to_flax(found[names[ours]]) for ours in names}, like)


def to_pytorch(variables: Mapping[str, Any], module: Any) -> dict[str, np.ndarray]:
    """Make a PyTorch state dict of Flax variables: the inverse of `from_pytorch`.

    For a residual network the names are `shortcut` and `linear`. `save` writes them
    too.
    """
    leaves = {name: np.asarray(leaf) for name, leaf in _named(variables).items()}
    names = _pytorch_names(module, leaves)
    return {theirs: _to_pytorch(leaves[ours]) for ours, theirs in names.items()}


# Kernels are (height, width, in, out) here and (out, in, height, width) there, dense
# ones (in, out) and (out, in).


def _to_pytorch(array: Any) -> Any:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _to_flax(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _pytorch_names(
    module: Any, ours: Iterable[str], state: Iterable[str] = ()
) -> dict[str, str]:
    """PyTorch's name of every leaf, by Flax's."""
    if isinstance(module, Tiny10):
        layers = {n: n for i in range(1, 9) for n in (f"conv{i}", f"bn{i}")}
        layers["fc"] = "fc"
    elif isinstance(module, ResNet) and module.norm == "batch":
        layers = _resnet_layers(module.depth)
    else:
        known = {"conv8.weight": "Tiny-10", "layer1.0.conv1.weight": "a ResNet"}
        of = [what for name, what in known.items() if name in state]
        raise WeightsError(
            f"these are weights of {of[0] if of else 'a network from PyTorch'}, and "
            f"the model is {type(module).__name__}: expected Tiny10 or ResNet with "
            "norm='batch', whose names in PyTorch are known; weights of others have "
            "Flax's names, such as 'params/Dense_0/kernel'"
        )
    names = {}
    for name in ours:
        layer, _, leaf = name.partition("/")[2].rpartition("/")
        if layer not in layers or leaf not in _LEAVES:
            raise WeightsError(
                f"variables have {name!r}, which {type(module).__name__} does not"
            )
        names[name] = f"{layers[layer]}.{_LEAVES[leaf]}"
    return names


def _resnet_layers(depth: int) -> dict[str, str]:
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


def _usual_names(state: Mapping[str, Any], module: Any) -> dict[str, np.ndarray]:
    """The state dict under the names of this file's docstring, without counters."""
    usual = {}
    for theirs, array in state.items():
        name = theirs.removeprefix("module.")
        if isinstance(module, ResNet):
            name = name.replace(".downsample.", ".shortcut.")
            name = re.sub("^fc[.]", "linear.", name)
        if not name.endswith(".num_batches_tracked"):
            usual[name] = np.asarray(array)
    return usual


def _copying_shortcuts(
    wanted: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, np.ndarray]:
    """Convolutions and norms that do what shortcuts without weights do.

    Option A of He et al. takes every second position and puts as many channels of
    zeros before the input's as after them: a 1×1 convolution that copies, and a norm
    that changes nothing.
    """
    leaves = {}
    for name, leaf in wanted.items():
        if name.endswith(".shortcut.0.weight"):
            before = (leaf.shape[0] - leaf.shape[1]) // 2
            copy = np.eye(*leaf.shape[:2], k=-before, dtype=np.float32)
            leaves[name] = copy[:, :, None, None]
        elif ".shortcut.1." in name:
            value = _COPYING_NORM[name.rpartition(".")[2]]
            leaves[name] = np.full(leaf.shape, value, np.float32)
    return leaves
