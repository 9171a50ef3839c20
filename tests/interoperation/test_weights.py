"""Weights from files into symmetry and matching: safetensors, and PyTorch's names."""

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

import combinability
from benchmarks import models, weights
from tests.benchmarks.pytorch_networks import random_state, resnet, resnet_shapes


def test_variables_from_safetensors_are_matched(tmp_path):
    module, x = models.MLP(3, features=(8,)), jnp.ones((1, 5))
    init = jax.jit(module.init)
    a, b = (init(jax.random.key(seed), x) for seed in (0, 1))
    for name, variables in {"a": a, "b": b}.items():
        weights.save(tmp_path / f"{name}.safetensors", variables)

    a, b = (weights.load(tmp_path / f"{n}.safetensors", module, x) for n in "ab")
    symmetry = combinability.infer_symmetry(module.apply, a, x)
    matching = combinability.match(symmetry, a, b, key=jax.random.key(0), restarts=0)
    aligned = symmetry.apply(matching.permutation, b)

    assert combinability.weight_distance(a, aligned) < combinability.weight_distance(
        a, b
    )
    weights.save(tmp_path / "aligned.safetensors", aligned)
    again = weights.load(tmp_path / "aligned.safetensors", module, x)
    jax.tree.map(np.testing.assert_array_equal, again, aligned)


def test_pytorch_weights_are_permuted_and_go_back(tmp_path):
    module, x = models.ResNet(10, depth=8), jnp.ones((1, 8, 8, 3))
    state = random_state(resnet_shapes(1, shortcuts=True))
    save_file(state, tmp_path / "a.safetensors")

    a = weights.load(tmp_path / "a.safetensors", module, x)
    symmetry = combinability.infer_symmetry(module.apply, a, x, certify=False)
    backwards = {
        name: jnp.arange(group.size)[::-1] for name, group in symmetry.groups.items()
    }
    b = symmetry.apply(backwards, a)
    weights.save(tmp_path / "b.safetensors", weights.to_pytorch(b, module))

    permuted = load_file(tmp_path / "b.safetensors")
    assert permuted.keys() == state.keys()
    assert not np.allclose(permuted["conv1.weight"], state["conv1.weight"])
    image = np.random.default_rng(0).normal(size=(3, 8, 8))
    expected = resnet(state, image, blocks=1)
    np.testing.assert_allclose(resnet(permuted, image, blocks=1), expected, rtol=1e-4)
