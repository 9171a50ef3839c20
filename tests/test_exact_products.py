"""What must be exact is not computed in an accelerator's default precision.

GPUs multiply float32 matrices in TF32 by default and TPUs in bfloat16, with 10 and 7
bits. A CPU does not, so its numbers cannot show it: the products themselves are looked
at, as they are traced.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import combinability
import rllc
import stitching
from combinability._robustness import _inner
from combinability.matching._moments import _moments
from stitching import layers, report, similarity

PRODUCTS = (jax.lax.dot_general_p, jax.lax.conv_general_dilated_p)
HIGHEST = (jax.lax.Precision.HIGHEST,) * 2


@contextlib.contextmanager
def recorded(monkeypatch):
    """Collects dtype and precision of each product of floats that is traced meanwhile.

    What was traced before is forgotten, so that nothing hides behind a cache.
    """
    seen = []

    def watched(bind):
        def look(x, y, *rest, **options):
            if jnp.issubdtype(x.dtype, jnp.inexact):
                seen.append((str(x.dtype), options["precision"]))
            return bind(x, y, *rest, **options)

        return look

    jax.clear_caches()
    with monkeypatch.context() as patch:
        for product in PRODUCTS:
            patch.setattr(product, "bind", watched(product.bind))
        yield seen


def network(seed):
    generator = np.random.default_rng(seed)
    shapes = {"in": (3, 6), "middle": (6, 5), "out": (5, 2)}
    return {
        name: jnp.asarray(generator.normal(size=shape), jnp.float32)
        for name, shape in shapes.items()
    }


def apply(variables, x):
    """An MLP that multiplies matrices by sums, so that no product is the user's."""
    for name in ("in", "middle"):
        x = jnp.tanh((x[:, :, None] * variables[name]).sum(1))
    return (x[:, :, None] * variables["out"]).sum(1)


def apply_with_products(variables, x):
    x = jnp.tanh(x @ variables["in"])
    return jnp.tanh(x @ variables["middle"]) @ variables["out"]


X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)


def step(optimizer):
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    _, state = optimizer.update(params, optimizer.init(params), params)
    return rllc.diagnostics(state)


def infer():
    return combinability.infer_symmetry(apply, network(1), X, certify=False)


def match(way, **options):
    a, b, key = network(1), network(2), jax.random.key(0)
    return way(infer(), a, b, key=key, **options)


def stitched(layer):
    return layer.apply(layer.init(jax.random.key(0), X), X)


LAW = rllc.LearningLaw
# These need only be traced.
TRACED = {
    "rllc": lambda: step(rllc.rllc(0.1)),
    "rllc, bounded": lambda: step(rllc.rllc(0.1, law=LAW(trust_region=0.1))),
    "rllc, pseudo-inverse": lambda: step(
        rllc.rllc(0.1, law=LAW(solver=rllc.PseudoInverse(), conserve_gain=False))
    ),
    "rllc, any units": lambda: step(
        rllc.rllc(0.1, memory=rllc.units(optax.trace(0.9), optax.scale_by_adam()))
    ),
    "rllc, fixed law": lambda: step(rllc.nesterov(1.0, 0.9)),
    "activation matching": lambda: _moments(jnp.asarray(X)[None], jnp.asarray(X)[None]),
    "robustness": lambda: _inner(jnp.asarray(X), jnp.asarray(X)),
    "moments": lambda: stitching.moments(X, Y),
    "least squares": lambda: stitching.least_squares(stitching.moments(X, Y))(X),
    "reduced rank": lambda: stitching.reduced_rank(stitching.moments(X, Y)).rank(2)(X),
    "orthogonal": lambda: stitching.orthogonal(stitching.moments(X, X)),
    "sparse": lambda: stitching.sparse(stitching.moments(X, Y), 0.1),
    "residual": lambda: stitching.residual(
        stitching.least_squares(stitching.moments(X, Y)), stitching.moments(X, Y)
    ),
    "Mahalanobis distance": lambda: report.mahalanobis(Y, stitching.moments(Y)),
    "affine layer": lambda: stitched(layers.Affine(4)),
    "low-rank layer": lambda: stitched(layers.LowRank(4, rank=2)),
    "orthogonal layer": lambda: stitched(layers.Orthogonal(4)),
    **{
        name: lambda name=name: getattr(similarity, name)(X, Y)
        for name in (
            "cka",
            "cca",
            "svcca",
            "pwcca",
            "linear_regression",
            "procrustes",
            "shape_distance",
            "max_correlation",
        )
    },
}
RUN = {
    "weight matching": lambda: match(combinability.weight_matching),
    "match": lambda: match(combinability.match),
    "match many": lambda: combinability.match_many(
        infer(), [network(seed) for seed in (1, 2, 3)], key=jax.random.key(0)
    ),
}
CASES = {
    name: lambda case=case: jax.eval_shape(case) for name, case in TRACED.items()
} | RUN


@pytest.mark.parametrize("case", CASES)
def test_products_are_in_full_precision(case, monkeypatch):
    with recorded(monkeypatch) as seen:
        CASES[case]()
    assert seen
    assert {precision for _, precision in seen} == {HIGHEST}


def test_certification_is_in_full_precision_whatever_the_network_says(monkeypatch):
    with recorded(monkeypatch) as seen:
        combinability.infer_symmetry(apply_with_products, network(1), X)
    own = {precision for dtype, precision in seen if dtype == "float64"}
    assert own == {HIGHEST}
    assert {precision for dtype, precision in seen if dtype == "float32"} == {None}
