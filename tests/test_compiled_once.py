"""A call that equals an earlier one compiles nothing, outside of `jax.jit` too."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import combinability
import rllc
import stitching
from stitching import layers, report
from tests.compilations import compilations

ROWS = np.random.default_rng(0)
X = ROWS.normal(size=(12, 3)).astype(np.float32)
Y = np.tanh(X @ ROWS.normal(size=(3, 4)).astype(np.float32))
KEY = jax.random.key(0)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=False)(nn.Dense(4)(x)))
        return nn.Dense(2)(x)


class NormalisedTwin(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.hidden(x))


def training(variables, x):
    return Normalised().apply(variables, x, mutable=["batch_stats"])


def network(variables, x):
    return jnp.tanh(x @ variables["in"]) @ variables["out"]


jitted = jax.jit(network)
TWIN = nn.Dense(2)
SVCCA = functools.partial(stitching.similarity.svcca, share=0.8)


def loss_on(variables, x):
    return ((network(variables, x) - Y) ** 2).mean()


def loss(variables):
    return loss_on(variables, X)


A, B, C = (
    {
        "in": ROWS.normal(size=(3, 5)).astype(np.float32),
        "out": ROWS.normal(size=(5, 4)).astype(np.float32),
    }
    for _ in range(3)
)


@functools.cache
def symmetry():
    return combinability.infer_symmetry(network, A, X)


def identity():
    return combinability.permutations.identity(symmetry())


def moments():
    return stitching.moments(X, Y)


def fitted(seen, held_out):
    return stitching.least_squares(stitching.moments(seen, Y[: len(seen)])).weight


def one_step(optimizer):
    """A step on its own, as a loop without `jax.jit` takes it."""
    gradient = jax.tree.map(jnp.sign, A)
    return optimizer.update(gradient, optimizer.init(A), A)


def applied(layer):
    variables = layer.init(KEY, X)
    return layer.apply(variables, X), layer.fit(variables)


CALLS = {
    "least squares": lambda: stitching.least_squares(moments()),
    "ridge": lambda: stitching.least_squares(moments(), 0.1),
    "reduced rank": lambda: stitching.reduced_rank(moments()).rank(1),
    "orthogonal": lambda: stitching.orthogonal(moments(), scale=True),
    "permutation": lambda: stitching.permutation(moments()),
    "semi-matching": lambda: stitching.semi_matching(moments(), by="correlation"),
    "sparse": lambda: stitching.sparse(moments(), 0.1),
    "R²": lambda: stitching.r_squared(stitching.Fit(jnp.eye(3, 4), Y[0]), moments()),
    "batches of a Linen module": lambda: stitching.in_batches(
        TWIN.apply, TWIN.init(KEY, X), X
    ),
    "batches of an NNX module": lambda: stitching.in_batches(
        NormalisedTwin(nnx.Rngs(0)).hidden, X
    ),
    "batches of a jitted function": lambda: stitching.in_batches(jitted, A, X),
    "an interval": lambda: stitching.similarity.bootstrap(
        SVCCA, X, Y, key=KEY, draws=2
    ),
    "controls": lambda: report.controls(fitted, (X, X), (Y, Y), key=KEY),
    "mahalanobis": lambda: report.mahalanobis(Y, stitching.moments(Y, Y)),
    "an affine layer": lambda: applied(layers.Affine(4)),
    "a low-rank layer": lambda: applied(layers.LowRank(4, rank=2)),
    "a trained matching": lambda: applied(layers.Matching(4)),
    "weight matching": lambda: combinability.weight_matching(symmetry(), A, B, key=KEY),
    "activation matching": lambda: combinability.activation_matching(
        symmetry(), A, B, [X], key=KEY
    ),
    "straight-through matching": lambda: combinability.straight_through_matching(
        symmetry(), loss_on, A, B, [X], key=KEY, steps=2
    ),
    "transport by weights": lambda: combinability.soft_matching(
        symmetry(), A, B, regularisation=0.1
    ),
    "transport by activations": lambda: combinability.soft_matching(
        symmetry(), A, B, batches=[X], regularisation=0.1
    ),
    "many networks": lambda: combinability.match_many(symmetry(), [A, B, C], key=KEY),
    "evaluate": lambda: combinability.evaluate(
        loss, A, B, combinability.uniform(), key=KEY, samples=3
    ),
    "barrier": lambda: combinability.barrier(loss, A, B, points=3),
    "transitivity": lambda: combinability.transitivity(
        loss, symmetry(), [A, B, C], key=KEY, points=3
    ),
    "robustness": lambda: combinability.robustness(
        loss,
        symmetry(),
        A,
        B,
        identity(),
        key=KEY,
        fractions=[0.0, 0.5],
        trials=2,
        samples=3,
    ),
    "statistics of BatchNorm": lambda: combinability.reset_batch_norm(
        training, Normalised().init(KEY, X), X.reshape(3, 4, 3)
    ),
    "statistics of an NNX module": lambda: combinability.reset_batch_norm(
        (module := NormalisedTwin(nnx.Rngs(0))), nnx.state(module), X.reshape(3, 4, 3)
    ),
    "a step of rllc": lambda: one_step(rllc.rllc(0.1)),
    "a step of rllc_adam": lambda: one_step(rllc.rllc_adam(0.1)),
    "a step of several laws": lambda: one_step(
        rllc.rllc(0.1, law=rllc.LearningLaw(groups="leaf"))
    ),
    "a step under a fixed law": lambda: one_step(
        optax.chain(
            rllc.scale_by_rllc(law=rllc.FixedLaw([1.0, 0.5, 0.1])), optax.scale(-0.1)
        )
    ),
    "diagnostics": lambda: rllc.diagnostics(rllc.rllc(0.1).init(A)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_second_call_compiles_nothing(name):
    CALLS[name]()
    with compilations() as seen:
        CALLS[name]()
    assert seen == []
