"""Weights from files into symmetry and matching: safetensors, and PyTorch's names."""

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

import combinability
from benchmarks import models, weights
from tests.benchmarks.pytorch_networks import random_state, resnet_shapes


def test_variables_from_safetensors_are_matched(tmp_path):
    module, x = models.MLP(3, features=(8, 6)), jnp.ones((1, 5))
    init = jax.jit(module.init)
    a, b = (init(jax.random.key(seed), x) for seed in (0, 1))
    for name, variables in {"a": a, "b": b}.items():
        weights.save(tmp_path / f"{name}.safetensors", variables)

    a, b = (weights.load(tmp_path / f"{n}.safetensors", module, x) for n in "ab")
    symmetry = combinability.infer_symmetry(module.apply, a, x)
    matching = combinability.match(symmetry, a, b, key=jax.random.key(0), restarts=0)
    aligned = symmetry.apply(matching.permutation, b)

    assert combinability.l2(a, aligned) < combinability.l2(a, b)
    weights.save(tmp_path / "aligned.safetensors", aligned)
    again = weights.load(tmp_path / "aligned.safetensors", module, x)
    jax.tree.map(np.testing.assert_array_equal, again, aligned)


def test_pytorch_weights_are_matched_and_go_back(tmp_path):
    module, x = models.ResNet(10, depth=8), jnp.ones((1, 8, 8, 3))
    save_file(
        random_state(resnet_shapes(1, shortcuts=True)), tmp_path / "a.safetensors"
    )

    a = weights.load(tmp_path / "a.safetensors", module, x)
    symmetry = combinability.infer_symmetry(module.apply, a, x, certify=False)
    permutation = combinability.random(jax.random.key(0), symmetry)
    b = symmetry.apply(permutation, a)
    matching = combinability.weight_matching(
        symmetry, a, b, key=jax.random.key(1), start="pinned"
    )
    aligned = symmetry.apply(matching.permutation, b)

    jax.tree.map(np.testing.assert_array_equal, aligned, a)
    weights.save(tmp_path / "b.safetensors", weights.to_pytorch(b, module))
    again = weights.load(tmp_path / "b.safetensors", module, x)
    jax.tree.map(np.testing.assert_array_equal, again, b)
