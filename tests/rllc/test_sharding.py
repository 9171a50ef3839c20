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


# Sharded over x, over both axes, over y, over none.
BY_HAND = {
    "w": PartitionSpec("x"),
    "v": PartitionSpec("x", "y"),
    "u": PartitionSpec("y"),
    "b": PartitionSpec(),
}
BY_HAND_SHAPES = {"w": (8, 3), "v": (8, 4), "u": (6,), "b": (5,)}
OPTIMIZERS = {
    "rllc": lambda **options: rllc.rllc(0.1, law=rllc.LearningLaw(0.05), **options),
    "refreshed": lambda **options: rllc.rllc(
        0.1, law=rllc.LearningLaw(0.05, refresh=2, trust_region=0.1), **options
    ),
    "leaf": lambda **options: rllc.rllc(
        0.1, law=rllc.LearningLaw(0.05, groups="leaf"), **options
    ),
    "bfloat16": lambda **options: rllc.rllc(
        0.1, law=rllc.LearningLaw(0.05), memory_dtype=jnp.bfloat16, **options
    ),
    "units": lambda **options: rllc.rllc(
        0.1, rllc.units(optax.scale_by_adam(), optax.trace(0.9)), **options
    ),
    "rllc_adam": lambda **options: rllc.rllc_adam(
        optax.linear_schedule(0.1, 0.0, 20), weight_decay=0.1, **options
    ),
}


def by_hand_gradients(steps, bad=None):
    rng = np.random.default_rng(0)
    trees = [
        {
            n: rng.normal(size=s).astype(np.float32) + 0.3
            for n, s in BY_HAND_SHAPES.items()
        }
        for _ in range(steps)
    ]
    if bad is not None:
        trees[bad]["w"][7, 1] = np.nan
    return trees


def by_hand(make, gradients, check_vma=True, specs=BY_HAND):
    """Training by `shard_map` and on one device: parameters and law of each."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    start = jax.tree.map(jnp.ones_like, gradients[0])

    def train(optimizer):
        def step(carry, gradient):
            params, state = carry
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        def run(params, first, *others):
            # The first step tells over which axes the state varies.
            carry, _ = step((params, optimizer.init(params)), first)
            if others:
                stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
                carry, _ = jax.lax.scan(step, carry, stacked)
            params, state = carry
            seen = rllc.diagnostics(state)
            return params, seen.law, seen.skipped

        return run

    expected = jax.jit(train(make()))(start, *gradients)
    mapped = jax.shard_map(
        train(make(axis_name=("x", "y"))),
        mesh=mesh,
        in_specs=(specs,) * (1 + len(gradients)),
        out_specs=(specs, PartitionSpec(), PartitionSpec()),
        check_vma=check_vma,
    )
    return jax.jit(mapped)(start, *gradients), expected


def assert_same_path(got, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        got,
        expected,
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shard_map_learns_the_law_of_one_device(name):
    """Sharded and replicated leaves mixed; a gradient that is NaN on one device."""
    got, expected = by_hand(OPTIMIZERS[name], by_hand_gradients(5, bad=3))
    assert int(expected[2]) == 1
    assert_same_path(got, expected)


def test_unchecked_shard_map_learns_the_law_of_one_device_where_all_is_sharded():
    gradients = [{"v": tree["v"]} for tree in by_hand_gradients(5)]
    specs = {"v": BY_HAND["v"]}
    got, expected = by_hand(OPTIMIZERS["rllc"], gradients, False, specs)
    assert_same_path(got, expected)


@pytest.mark.parametrize("mapping", [jax.vmap, jax.pmap])
def test_named_axes_of_vmap_and_pmap_share_a_law(mapping):
    gradients = by_hand_gradients(4)
    optimizer = rllc.rllc(0.1, law=rllc.LearningLaw(0.05), axis_name="shards")

    def laws(optimizer, gradients):
        state = optimizer.init(gradients[0])
        for gradient in gradients:
            _, state = optimizer.update(gradient, state)
        return rllc.diagnostics(state).law

    whole = [tree["w"] for tree in gradients]
    shards = [w.reshape(4, 2, 3) for w in whole]
    got = mapping(lambda g: laws(optimizer, g), axis_name="shards")(shards)
    plain = rllc.rllc(0.1, law=rllc.LearningLaw(0.05))
    expected = jax.jit(lambda g: laws(plain, g))(whole)
    np.testing.assert_allclose(got, np.stack([expected] * 4), rtol=1e-5)


@pytest.mark.parametrize("axis_name", [None, "x"])
@pytest.mark.parametrize("name", ["rllc", "rllc_adam", "units"])
def test_a_forgotten_axis_is_an_error(name, axis_name):
    with pytest.raises(ValueError, match="axis_name: expected all axes over which"):
        by_hand(
            lambda **options: OPTIMIZERS[name](
                **({"axis_name": axis_name} if options else {})
            ),
            by_hand_gradients(1),
        )


def test_devices_may_train_networks_of_their_own():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(8, 6)).astype(np.float32) for _ in range(3)]

    def laws(optimizer):
        def run(*gradients):
            state = optimizer.init(gradients[0][0])
            for gradient in gradients:
                _, state = optimizer.update(gradient[0], state)
            return rllc.diagnostics(state).law[None]

        return run

    law = rllc.LearningLaw(0.05)
    mapped = jax.shard_map(
        laws(rllc.rllc(0.1, law=law, axis_name=())),
        mesh=mesh,
        in_specs=PartitionSpec("x"),
        out_specs=PartitionSpec("x"),
    )
    one = jax.jit(laws(rllc.rllc(0.1, law=law)))
    expected = [one(*(g[i : i + 1] for g in gradients))[0] for i in range(8)]
    np.testing.assert_allclose(jax.jit(mapped)(*gradients), expected, rtol=1e-5)


def test_a_fixed_law_keeps_the_type_of_a_state_that_differs_between_devices():
    """As the carry of a scan has to."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    optimizer = rllc.nesterov(0.1)
    gradients = np.random.default_rng(0).normal(size=(8, 5, 3)).astype(np.float32)
    states = jax.vmap(optimizer.init)(gradients[:, 0])

    def run(state, gradients):
        def step(state, gradient):
            updates, state = optimizer.update(gradient, state)
            return state, updates

        state = jax.tree.map(lambda leaf: leaf[0], state)
        return jax.lax.scan(step, state, gradients[0])[1][None]

    spec = PartitionSpec("x")
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    expected = jax.vmap(lambda s, g: run(*jax.tree.map(lambda x: x[None], (s, g)))[0])
    np.testing.assert_allclose(
        jax.jit(mapped)(states, gradients), jax.jit(expected)(states, gradients), 1e-5
    )
