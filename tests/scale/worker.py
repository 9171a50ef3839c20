"""One of several processes of a cluster on one machine, started by `test_processes`.

What it computes is also computed there, on one device. That it starts at all shows
that importing the libraries touches no device, which a cluster must be named before.
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import combinability
import rllc
import stitching

PROCESSES, DEVICES_EACH = 2, 2
# Not a multiple of processes, devices or batch.
SAMPLES, BATCH = 13, 2
STEPS = 8
RATES = np.array([0.0, 0.1, 0.3, 1.0], np.float32)
SPECS = {"w": PartitionSpec("x"), "v": PartitionSpec(None, "x"), "b": PartitionSpec()}


def network(seed):
    generator = np.random.default_rng(seed)
    shapes = {"w": (8, 6), "v": (3, 4), "b": (5,)}
    return {
        name: generator.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def train(place=lambda tree: jax.tree.map(jnp.asarray, tree)):
    """Parameters, units and law after some steps on random gradients."""
    params, optimizer = place(network(0)), rllc.rllc(0.1)
    state = jax.jit(optimizer.init)(params)

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for seed in range(1, STEPS):
        params, state = step(params, state, place(network(seed)))
    return {
        "params": params,
        "memory": optax.tree.get(state, "memory"),
        "law": optax.tree.get(state, "law"),
    }


def evaluate(samples=SAMPLES, **options):
    """Values of every dtype that a metric may have."""
    x = jnp.asarray(np.random.default_rng(7).normal(size=(20, 8)), jnp.float32)

    def metric(variables):
        y = jnp.tanh(x @ variables["w"])
        return {"outputs": y[:2], "positive": y[0] > 0, "count": (y > 0).sum()}

    return combinability.evaluate(
        metric,
        network(1),
        network(2),
        combinability.uniform(-0.2, 1.2),
        key=jax.random.key(3),
        samples=samples,
        batch_size=BATCH,
        **options,
    )


def activations():
    """Activations of two networks, far from zero."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(24, 4)) + 100.0
    return x, generator.normal(size=(24, 3)) + x[:, :3]


def classifier(seed):
    """Variables of a network from 5 features to 3 classes, as Flax has them."""
    generator = np.random.default_rng(seed)

    def dense(inputs, outputs):
        kernel = generator.normal(size=(inputs, outputs)).astype(np.float32)
        return {"kernel": kernel, "bias": np.zeros(outputs, np.float32)}

    return {"params": {"layers_0": dense(5, 4), "layers_2": dense(4, 3)}}


def sweep(rates, **options):
    """Stitches of which each has another learning rate: their maps, stacked."""
    model = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3)])
    x = np.random.default_rng(6).normal(size=(16, 5)).astype(np.float32)
    cut = stitching.cut(model, "layers_0", x)
    identity = {"kernel": np.eye(4, dtype=np.float32), "bias": np.zeros(4, np.float32)}
    found = stitching.train_many(
        stitching.stitch(cut, stitching.layers.Affine(4), cut),
        classifier(1),
        classifier(2),
        x,
        stitching.targets.hard(jnp.arange(16) % 3),
        optax.sgd,
        hyperparameters=stitching.each(rates),
        initial={"params": identity},
        key=jax.random.key(3),
        steps=10,
        batch_size=8,
        **options,
    )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(one.fit for one in found))


def cluster_train():
    """The same with parameters, gradients and units spread over all processes."""
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,))

    def place(tree):
        return {
            name: jax.make_array_from_callback(
                leaf.shape, NamedSharding(mesh, SPECS[name]), leaf.__getitem__
            )
            for name, leaf in tree.items()
        }

    return multihost_utils.process_allgather(train(place), tiled=True)


def cluster_moments():
    """Moments of rows spread over all devices; and of each process's own, merged."""
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("x"))
    mine = slice(jax.process_index(), None, jax.process_count())
    with jax.enable_x64(True):
        x, y = activations()
        spread = [
            jax.make_array_from_callback(z.shape, rows, z.__getitem__) for z in (x, y)
        ]
        together = jax.jit(stitching.moments)(*spread)
        own = jax.jit(stitching.moments)(x[mine], y[mine])
        gathered = multihost_utils.process_allgather(own)
        parts = [jax.tree.map(lambda leaf, i=i: leaf[i], gathered) for i in range(2)]
        merged = jax.jit(stitching.merge)(*parts)
        return multihost_utils.process_allgather(together, tiled=True), merged


def cluster_sweep():
    """Each process trains its part of the sweep, on all of its devices."""
    mine = np.split(RATES, jax.process_count())[jax.process_index()]
    own = sweep(mine, devices=jax.local_devices())
    return multihost_utils.process_allgather(own, tiled=True)


def rejection():
    """What `evaluate` says to parameters of which each process holds a part."""
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,))
    w = jax.make_array_from_callback(
        (8,), NamedSharding(mesh, PartitionSpec("x")), np.ones(8).__getitem__
    )
    try:
        combinability.evaluate(
            jnp.sum, w, w, combinability.uniform(), key=jax.random.key(3), samples=2
        )
    except ValueError as error:
        return str(error)


def main(address, number, folder):
    jax.config.update("jax_num_cpu_devices", DEVICES_EACH)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        PROCESSES,
        number,
        initialization_timeout=60,
        shutdown_timeout_seconds=60,
    )
    assert jax.device_count() == PROCESSES * DEVICES_EACH
    file = folder / "samples"
    found = {"training": cluster_train()}
    found["samples"] = evaluate(checkpoint=file)
    found["fewer samples than processes"] = evaluate(samples=1)
    if number == 1:
        file.with_name("samples.1").unlink()
    found["samples, resumed"] = evaluate(checkpoint=file)
    found["spread moments"], found["merged moments"] = cluster_moments()
    found["sweep"] = cluster_sweep()
    save(folder / f"found.{number}.npz", found | {"rejection": rejection()})


def save(path, found):
    """Writes a tree of dicts and tuples, each leaf by its path."""
    leaves = jax.tree_util.tree_flatten_with_path(found)[0]
    arrays = {jax.tree_util.keystr(place): np.asarray(leaf) for place, leaf in leaves}
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
