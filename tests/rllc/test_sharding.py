"""Eight devices do what one does, with one all-reduce of the law's scalars a step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rllc

SHAPES = {"w": (16, 24), "v": (8, 4, 3), "b": (32,)}
SPECS = {
    "w": PartitionSpec(None, "x"),
    "v": PartitionSpec("x"),
    "b": PartitionSpec("x"),
}


def gradients(steps):
    rng = np.random.default_rng(0)
    return [
        {
            name: rng.normal(size=shape).astype(np.float32)
            for name, shape in SHAPES.items()
        }
        for _ in range(steps)
    ]


def run(optimizer, place, steps=8):
    params = place({name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    state = jax.jit(optimizer.init)(params)

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients(steps):
        params, state = step(params, state, place(gradient))
    return params, state, step


@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize(
    "optimizer",
    [
        rllc.rllc(0.1),
        rllc.rllc_adam(0.1),
        rllc.rllc(0.1, law=rllc.LearningLaw(groups="leaf")),
    ],
    ids=["rllc", "rllc_adam", "leaf"],
)
def test_eight_devices_are_one_device(optimizer, axis_type):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))

    def sharded(tree):
        return {
            name: jax.device_put(leaf, NamedSharding(mesh, SPECS[name]))
            for name, leaf in tree.items()
        }

    expected, expected_state, _ = run(optimizer, lambda t: jax.tree.map(jnp.asarray, t))
    with jax.set_mesh(mesh):
        params, state, _ = run(optimizer, sharded)
    for name, leaf in params.items():
        np.testing.assert_allclose(leaf, expected[name], rtol=2e-5, atol=1e-6)
        assert leaf.sharding.is_equivalent_to(
            NamedSharding(mesh, SPECS[name]), leaf.ndim
        )
    units = optax.tree.get(state, "memory")
    for unit in units:
        for name, leaf in params.items():
            assert unit[name].sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
    np.testing.assert_allclose(
        rllc.diagnostics(state).law, rllc.diagnostics(expected_state).law, rtol=1e-4
    )


@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto])
def test_a_step_has_one_all_reduce(axis_type):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))
    optimizer = rllc.rllc(0.1)

    with jax.set_mesh(mesh):
        params = {
            name: jax.device_put(
                np.ones(shape, np.float32), NamedSharding(mesh, SPECS[name])
            )
            for name, shape in SHAPES.items()
        }
        state = jax.jit(optimizer.init)(params)
        text = (
            jax.jit(optimizer.update).lower(params, state, params).compile().as_text()
        )
    entry = text[text.index("ENTRY") :]
    reduces = re.findall(r"= .* all-reduce(?:-start)?\(", entry)
    assert len(reduces) == 1, reduces
