"""Does rescaling lower the barrier that matching leaves?

Pairs of MLPs 64-W-W-10 on scikit-learn's digits, for ReLU and tanh. The committed
numbers: `python -m benchmarks.combinability.rescaling > rescaling_digits.json`.
"""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import combinability


def losses(model, variables, x, y):
    logits = model.apply(variables, x)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return {"error": 100 * jnp.mean(logits.argmax(-1) != y), "loss": loss}


def trained(model, key, x, y, steps):
    """One network, by Adam on batches of 64."""
    optimizer = optax.adam(1e-3)
    first, second = jax.random.split(key)

    def step(state, key):
        rows = jax.random.randint(key, (64,), 0, len(x))
        gradient = jax.grad(lambda v: losses(model, v, x[rows], y[rows])["loss"])
        update, memory = optimizer.update(gradient(state[0]), state[1])
        return (optax.apply_updates(state[0], update), memory), None

    variables = model.init(first, x[:1])
    start = variables, optimizer.init(variables)
    return jax.lax.scan(step, start, jax.random.split(second, steps))[0][0]


def trained_networks(model, keys, x, y, steps):
    stacked = jax.jit(jax.vmap(lambda key: trained(model, key, x, y, steps)))(keys)
    leaves, structure = jax.tree.flatten(stacked)
    return [jax.tree.unflatten(structure, each) for each in zip(*leaves, strict=True)]


def barriers(model, networks, x, y):
    """For each pair the barriers in error and loss, and the distance, of each way."""
    symmetry = combinability.infer_symmetry(model.apply, networks[0], x[:2])
    rescaling = combinability.infer_rescaling(symmetry)

    def matched(a, b, key):
        return symmetry.apply(combinability.match(symmetry, a, b, key=key)[0], b)

    rows = []
    for pair in range(len(networks) // 2):
        a, b = networks[2 * pair : 2 * pair + 2]
        key = jax.random.key(pair)
        goal, other = (combinability.rescale(rescaling, each) for each in (a, b))
        moved, moved_balanced = matched(a, b, key), matched(goal, other, key)
        ways = {
            "not matched": (a, b),
            "matched": (a, moved),
            "matched, rescaled": (a, combinability.rescale(rescaling, moved, a)),
            "balanced, matched, rescaled": (
                goal,
                combinability.rescale(rescaling, moved_balanced, goal),
            ),
        }
        row = {}
        for way, (first, second) in ways.items():
            height = combinability.barrier(
                lambda v: losses(model, v, x, y), first, second, points=11
            ).height
            distance = combinability.weight_distance(first, second)
            row[way] = {name: float(value) for name, value in height.items()}
            row[way]["distance"] = float(distance)
        rows.append(row)
    return rows


def run(pairs=8, steps=1500, widths=(32, 128)):
    """Return test errors and, for each pair, barriers (percentage points, nats)."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32) / 16
    x, held_out, y, labels = map(
        jnp.asarray, train_test_split(x, y, test_size=600, random_state=0, stratify=y)
    )
    result = {"jax": jax.__version__, "pairs": pairs, "steps": steps}
    for name, activation in (("relu", nn.relu), ("tanh", jnp.tanh)):
        for width in widths:
            layers = [nn.Dense(width), activation, nn.Dense(width), activation]
            model = nn.Sequential([*layers, nn.Dense(10)])
            keys = jax.random.split(jax.random.key(width), 2 * pairs)
            networks = trained_networks(model, keys, x, y, steps)
            errors = [losses(model, v, held_out, labels)["error"] for v in networks]
            rows = barriers(model, networks, held_out, labels)
            result[f"{name} {width}"] = {
                "test error": float(np.mean(errors)),
                "pairs": rows,
            }
    return result


if __name__ == "__main__":
    print(json.dumps(run()))
