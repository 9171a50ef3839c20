"""A long evaluation in a process of its own, for `test_evaluate` to kill and resume."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from combinability import evaluate, uniform

SAMPLES = 100


def network(seed):
    rng = np.random.default_rng(seed)
    sizes = [(5, 16), (16, 16), (16, 3)]
    return {f"layer_{i}": rng.normal(size=s) / s[0] for i, s in enumerate(sizes)}


X = np.random.default_rng(7).normal(size=(20, 5))


def metric(variables):
    x = jnp.asarray(X, variables["layer_0"].dtype)
    for i in range(2):
        x = jax.nn.relu(x @ variables[f"layer_{i}"])
    x = x @ variables["layer_2"]
    return {"mean": x.mean(), "outputs": x[:2], "positive": x[0] > 0}


def run(**options):
    settings = {"key": jax.random.key(3), "samples": SAMPLES, "batch_size": 1} | options
    settings.setdefault("devices", jax.local_devices()[:1])
    return evaluate(metric, network(1), network(2), uniform(-0.2, 1.2), **settings)


def wait(done, samples):
    if done > SAMPLES // 5:
        print("waiting", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    run(checkpoint=sys.argv[1], progress=wait)
