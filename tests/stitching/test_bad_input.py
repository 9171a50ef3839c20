"""Input validation: the argument, what was expected, what came.

One table for the whole library, which `test_nothing_is_left_out` keeps complete.
"""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import stitching
from stitching import Cut, each, layers, plot, report, similarity, targets
from tests.bad_input import check_rejected, each_row
from tests.stitching.test_train import KEY, SGD, pair

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
FEWER, NARROW, ROW, NAN = X[:4], X[:, :2], X[0], float("nan")
WITH_NAN = np.where(np.arange(8)[:, None] == 4, NAN, X)
EQUAL = np.full((8, 2), 0.1, np.float32)
MAP, TOKENS = np.ones((2, 4, 4, 3), np.float32), np.ones((2, 15, 3), np.float32)
SEVERAL = ((X, X), [X, X], {"c": X}, stitching.Fit(jnp.ones((3, 3)), jnp.ones(3)))
PAIR, UNEVEN = stitching.moments(X, X + 1), stitching.moments(NARROW, X)
ALONE, ONE = stitching.moments(X), stitching.moments(X[:1], X[:1])
FIT, OTHER = stitching.least_squares(PAIR), stitching.least_squares(UNEVEN)
LOGITS, LABELS = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
V, T = ValueError, TypeError

NO_MOMENTS = "moments: expected stitching.Moments, got ndarray"
OF_ONE = "expected moments of a pair, got those of one activation"
OTHER_FIT = "moments: expected (2, 3) channels as the fit has, got (3, 3)"
NEGATIVE = "expected finite numbers, at least 0, got -1.0"
SQUARES = "scale them first"
NOT_TWO = "expected shape (samples, features), got (3,)"
NO_MODULE = (
    "module: expected an instance of flax.linen.Module or flax.nnx.Module, got 3"
)
NO_FEATURES = "features: expected at least 1, got 0"
A_LIST = "x: expected an array, or a tuple of several inputs, got a list"
NO_LAYER = "layer: expected a stitching layer, got int"
NOT_OURS = "stitched: expected what stitching.stitch(cut_1, layer, cut_2) gives, got"
t, ly, si, re, tg = stitching, layers, similarity, report, targets


def several(call, name):
    """Several arrays are not pooled."""
    says = f"{name}: expected one array, got "
    return [
        (lambda a=a: call(a), T, f"{says}{type(a).__name__}; where there are several")
        for a in SEVERAL
    ]


def of_moments(fit):
    """What every fit rejects."""
    no_sample = jax.tree.map(jnp.zeros_like, PAIR)
    with_nan = PAIR._replace(xy=PAIR.xy * jnp.nan)
    return [
        (lambda: fit(X), T, NO_MOMENTS),
        (lambda: fit(ALONE), V, f"moments: {OF_ONE}"),
        (lambda: fit(no_sample), V, "moments: expected at least 1 sample, got 0"),
        (lambda: fit(with_nan), V, "moments: expected finite moments, got NaN"),
    ]


def of_samples(index):
    """What every index of two activations rejects."""
    return [
        (lambda: index(X, FEWER), V, "expected the same samples in the same order, go"),
        (lambda: index(X[:1], X[:1]), V, "samples, got 1"),
        (lambda: index(ROW, ROW), V, f"x: {NOT_TWO}"),
        (lambda: index(X, MAP[:, 0, 0, 0]), V, "y: expected shape (samples, features)"),
        (lambda: index(X, np.ones((8, 2, 2))), V, "similarity.positions(y)"),
        (lambda: index(X[:, :0], X), V, "x: expected shape (samples, features), got ("),
        (lambda: index(X, WITH_NAN), V, "y: expected finite numbers, got NaN"),
        (lambda: index(X + np.inf, X), V, "x: expected finite numbers, got NaN or inf"),
        (lambda: index(X * 1j, X), T, "x: expected real numbers, got dtype complex"),
        (lambda: index(np.array([["a"]] * 8), X), T, "x: expected real numbers, got d"),
        (lambda: index(X, None), T, "y: expected an activation of shape (samples, fea"),
        *several(lambda a: index(a, X), "x"),
        *several(lambda a: index(X, a), "y"),
    ]


def of_pairs(index):
    """What an index that needs the samples rejects."""
    halves = np.full(8, 0.5)
    says = "weights: expected 0 or 1 for each sample"
    return [
        *of_samples(index),
        (lambda: index(PAIR, X), T, "x: expected an activation of shape (samples, fea"),
        (lambda: index(X, X, weights=halves), V, says),
    ]


def of_either(index, varies=True):
    """What an index that can be had from moments rejects."""
    rows = [
        *of_samples(index),
        (lambda: index(X), T, "y: expected an activation of shape (samples, features)"),
        (lambda: index(PAIR, PAIR), T, "y: expected None with Moments, got Moments"),
        (lambda: index(PAIR, weights=ROW), T, "weights: expected None with Moments"),
        (lambda: index(ALONE), V, f"x: {OF_ONE}"),
        (lambda: index(t.moments(WITH_NAN, X)), V, "x: expected finite moments, got N"),
        (lambda: index(t.moments(X * np.float32(1e25), X)), V, SQUARES),
        (lambda: index(t.moments(X, X * np.float32(1e-22))), V, SQUARES),
        (lambda: index(X, X, weights=-X[:, 0]), V, "weights: expected finite numbers"),
    ]
    if not varies:
        return rows
    undefined = "is not defined: no feature of x, or none of y, varies"
    return [
        *rows,
        (lambda: index(ONE), V, undefined),
        *((lambda a=a: index(*a), V, undefined) for a in ((X, EQUAL), (EQUAL, X))),
        (lambda: index(t.moments(X, EQUAL)), V, undefined),
    ]


def no_features(layer):
    """What is wrong with a layer is found when it meets an activation."""
    return [(lambda: layer.init(KEY, X), V, NO_FEATURES)]


def train(**changes):
    names = ("stitched", "variables_1", "variables_2", "x", "target")
    usual = {"optimizer": SGD, "key": KEY, "steps": 3, "batch_size": 4}
    given = dict(zip(names, pair("mlp"), strict=True)) | usual | changes
    several = any(isinstance(v, type(each([]))) for v in given.values())
    several |= "devices" in given
    return (stitching.train_many if several else stitching.train)(**given)


def with_layer(layer):
    stitched = pair("mlp")[0]
    return stitching.stitch(stitched.cut_1, layer, stitched.cut_2)


def scalar_back():
    stitched = pair("mlp")[0]
    back = Cut(stitched.cut_2.front, lambda variables, activation: activation.sum())
    return stitching.stitch(stitched.cut_1, stitched.layer, back)


CLASSES = np.arange(48) % 3
KERNEL = {"kernel": jnp.ones((9, 7))}
UNEQUAL = each([tg.hard(CLASSES), tg.soft(np.ones((48, 3)))])
DEVICES = jax.local_devices()


def audit(**changed):
    given = {
        "method": lambda x, y: lambda activation: activation,
        "source": (X[:4], X[4:]),
        "own": (X[:4], X[4:]),
        "back": lambda activation: activation,
        "labels": LABELS,
    }
    return report.audit_activations(**(given | changed), key=KEY)


def audit_networks(train, test=(slice(24, 48),)):
    stitched, a, b, x, _ = pair("mlp")
    data = [
        (x[d[0]], CLASSES[d[0]]) if isinstance(d, tuple) else d for d in (train, test)
    ]
    fit = lambda x, y: stitching.least_squares(stitching.moments(x, y))  # noqa: E731
    return report.audit(stitched, fit, a, b, *data, key=KEY)


def audit_nnx(module):
    stitched, a, b, x, _ = pair("mlp")
    stitched = stitching.stitch(stitched.cut_1, module, stitched.cut_2)
    data = [(x[rows], CLASSES[rows]) for rows in (slice(24), slice(24, 48))]
    method = report.TaskLoss(SGD, steps=2, batch_size=4)
    return report.audit(stitched, method, a, b, *data, key=KEY)


def no_rows(x):
    return x["a"].sum()


OF_LOGITS = [
    (lambda: re.accuracy(LOGITS[0], LABELS), V, "logits: expected logits of shape (sa"),
    (lambda: re.accuracy(LOGITS * 1j, LABELS), T, "logits: expected real numbers, got"),
    (lambda: re.accuracy(LOGITS, LOGITS), T, "labels: expected integers, got float"),
    (lambda: re.accuracy(LOGITS, LABELS[:2]), V, "labels: expected shape (4,)"),
    (lambda: re.accuracy(LOGITS, LABELS + 1), V, "classes from 0 to 2, got 1 to 3"),
    (lambda: re.accuracy(LOGITS, LABELS, weights=ROW), V, "weights: expected one per"),
    (
        lambda: re.accuracy(LOGITS, LABELS, weights=0 * LABELS),
        V,
        "weights: expected at least one above 0, got none",
    ),
]

# Of each public thing: calls, what they raise, and what must be said.
BAD = {
    "cut": [
        (lambda: t.cut(3, "a", X), T, NO_MODULE),
        (lambda: t.cut(nn.Dense(2), "nothing", X), V, "'nothing'"),
        (lambda: t.cut(nn.Dense(2), None, X), T, "path: expected the path"),
        (lambda: t.cut(nn.Dense(2), "", [X, X]), T, A_LIST),
    ],
    "cut_points": [
        (lambda: t.cut_points(3, {}, X), T, NO_MODULE),
        (lambda: t.cut_points(nn.Dense(2), {}, [X]), T, A_LIST),
    ],
    **{
        name: [
            (lambda f=f: f(3, {}, 3, {}, [X]), T, NO_MODULE),
            (
                lambda f=f: f(nn.Dense(2), {}, nn.Dense(2), {}, []),
                V,
                "batches: expected at least 1 batch, got none",
            ),
        ]
        for name, f in {
            "layer_cka": t.layer_cka,
            "layer_moments": t.layer_moments,
        }.items()
    },
    "moments": [
        (lambda: t.moments(X, FEWER), V, "expected the same samples, that is equal le"),
        (lambda: t.moments(X, MAP), V, "expected the same samples, that is equal lead"),
        (lambda: t.moments(X[:0]), V, "x: expected at least 1 sample, got 0"),
        (lambda: t.moments(X[:, 0]), V, "one sample is x[None]"),
        (lambda: t.moments(X * 1j), T, "x: expected real numbers, got dtype complex"),
        (lambda: t.moments(X, X > 0), T, "y: expected real numbers, got dtype bool"),
        (lambda: t.moments(X, weights=ROW), V, "expected one per sample, of shape (8,"),
        (lambda: t.moments(X, weights=np.float32(1)), V, "first axes, got ()"),
        (lambda: t.moments(X, weights=-np.ones(8)), V, f"weights: {NEGATIVE}"),
        (lambda: t.moments(X, weights=X[:, 0] * NAN), V, "at least 0, got nan"),
        (lambda: t.moments(X, weights=[X]), T, "weights: expected one array, got list"),
        (lambda: t.moments(X, weights=[1]), V, "expected one per sample, of shape (8,"),
        *several(lambda a: t.moments(a, X), "x"),
        *several(lambda a: t.moments(X, a), "y"),
    ],
    "merge": [
        (lambda: t.merge(PAIR, UNEVEN), V, "more: expected moments of (3, 3) channels"),
        (lambda: t.merge(PAIR, 3), T, "more: expected stitching.Moments, got int"),
        (lambda: t.merge(X, PAIR), T, "moments: expected stitching.Moments, got ndarr"),
    ],
    # Fits.
    "Fit": [
        *several(FIT, "activation"),
        (lambda: FIT(NARROW), V, "activation: expected (3,) channels as the fit has"),
        (lambda: t.sparse_path(PAIR, jnp.ones(2))(X), V, "apply a stack of fits with"),
    ],
    "residual": [(lambda: t.residual(OTHER, PAIR), V, OTHER_FIT)],
    "r_squared": [(lambda: t.r_squared(OTHER, PAIR), V, OTHER_FIT)],
    "least_squares": [
        *of_moments(t.least_squares),
        (lambda: t.least_squares(PAIR, -1.0), V, f"ridge: {NEGATIVE}"),
        (lambda: t.least_squares(PAIR, NAN), V, "at least 0, got nan"),
        (lambda: t.least_squares(PAIR, ROW), V, "ridge: expected one number, got shap"),
        (lambda: t.least_squares(t.moments(X * np.float32(1e25), X)), V, SQUARES),
    ],
    "reduced_rank": [
        *of_moments(t.reduced_rank),
        (lambda: t.reduced_rank(PAIR, -1.0), V, f"ridge: {NEGATIVE}"),
    ],
    "ReducedRank": [
        (lambda: t.reduced_rank(PAIR).rank(9), V, "rank: expected 0 to 3, got 9"),
        (lambda: t.reduced_rank(PAIR).rank(2.5), T, "rank: expected an integer, got 2"),
    ],
    "orthogonal": of_moments(t.orthogonal),
    "permutation": [
        *of_moments(t.permutation),
        (lambda: t.permutation(PAIR, by="eye"), V, "by: expected 'error' or 'correlat"),
        (lambda: jax.jit(t.permutation)(PAIR), T, "outside jit and vmap, or use semi_"),
    ],
    "semi_matching": [
        *of_moments(t.semi_matching),
        (lambda: t.semi_matching(PAIR, by="eye"), V, "by: expected 'error' or 'correl"),
    ],
    "sparse": [
        *of_moments(lambda given: t.sparse(given, 0.1)),
        (lambda: t.sparse(PAIR, -1.0), V, f"penalty: {NEGATIVE}"),
        (lambda: t.sparse(PAIR, np.inf), V, "penalty: expected finite numbers"),
        (lambda: t.sparse(PAIR, "much"), T, "penalty: expected real numbers, got dtyp"),
        (lambda: t.sparse(PAIR, 0.1, sweeps=0), V, "sweeps: expected at least 1, got"),
        (lambda: t.sparse(PAIR, 0.1, tolerance=0.0), V, "tolerance: expected a positi"),
    ],
    "sparse_path": [
        *of_moments(lambda given: t.sparse_path(given, ROW**2)),
        (lambda: t.sparse_path(PAIR, X), V, "penalties: expected shape (k,), got"),
        (lambda: t.sparse_path(PAIR, 0.1), V, "penalties: expected shape (k,), got"),
        (lambda: t.sparse_path(PAIR, ROW * 0 - 1), V, f"penalties: {NEGATIVE}"),
    ],
    "largest_penalty": of_moments(t.largest_penalty),
    "kkt_violation": [
        (lambda: t.kkt_violation(FIT, PAIR, -1.0), V, f"penalty: {NEGATIVE}"),
        (lambda: t.kkt_violation(OTHER, PAIR, 1.0), V, OTHER_FIT),
    ],
    # Training.
    "stitch": [
        (lambda: t.stitch(None, ly.Affine(7), None), T, "cut_1: expected a stitching."),
        (lambda: with_layer(7), T, "layer: expected an instance of a Flax module"),
    ],
    "in_batches": [
        (lambda: t.in_batches(no_rows, {"a": X, "b": ROW}), V, "x: expected arrays of"),
        (lambda: t.in_batches(no_rows, {"a": X}), V, "function: expected results with"),
        (lambda: t.in_batches(jnp.sin, X, batch_size=0), V, "expected at least 1, got"),
    ],
    "train": [
        (lambda: train(stitched=3), T, NOT_OURS),
        (lambda: train(target=CLASSES), T, "target: expected a stitching.targets.Targ"),
        (lambda: train(target=tg.hard(CLASSES[:47])), V, "48 samples as x has, got 47"),
        (lambda: train(target=tg.hard(CLASSES + 1)), V, "labels below 3, the classes"),
        (
            lambda: train(target=tg.hard(np.ones((48, 2), int))),
            V,
            "expected labels of shape (48,), one per output",
        ),
        (lambda: train(target=tg.soft(np.ones((48, 4)))), V, "expected values of shap"),
        (
            lambda: train(target=tg.hard(CLASSES) + tg.cka(np.ones((48, 6)))),
            V,
            "expected an activation of shape (48, 7)",
        ),
        (lambda: train(x={}), V, "x: expected arrays of one length"),
        (lambda: train(x=np.ones((0, 5))), V, "with at least 1 sample"),
        (lambda: train(x=(X, ROW)), V, "got shapes [(8, 3), (3,)]"),
        (lambda: train(steps=0), V, "steps: expected at least 1, got 0"),
        (lambda: train(steps=2.0), T, "steps: expected an integer"),
        (lambda: train(batch_size=49), V, "batch_size: expected from 1 to 48, the num"),
        (lambda: train(record=(0, 4)), V, "record: expected from 0 to 3, the number o"),
        (
            lambda: train(stitched=with_layer(nn.Dense(7)), record=(1,)),
            V,
            "record: expected none, as Dense has no method `fit`",
        ),
        (lambda: train(optimizer=0.1), T, "optimizer: expected an optax.Gradient"),
        (lambda: train(optimizer=optax.sgd), T, "optimizer: expected an optax.Gradien"),
        (lambda: train(stitched=with_layer(ly.Affine(6))), V, "layer: expected it to"),
        (
            lambda: train(stitched=with_layer(nn.Sequential([nn.relu]))),
            V,
            "layer: expected parameters to train, got Sequential without",
        ),
        (lambda: train(stitched=scalar_back()), V, "one per output of shape ()"),
        (lambda: train(initial={"params": KERNEL}), V, "at ['params']['bias'] shape ("),
        (
            lambda: train(initial={"params": KERNEL | {"bias": jnp.ones(6)}}),
            V,
            "shape (7,), got (6,)",
        ),
        (lambda: train(activation=jnp.ones((48, 8))), V, "activation: expected what c"),
    ],
    "each": [
        *(
            (lambda a=a: each(a), T, f"expected a list of one value per stitch, or {n}")
            for a, n in (
                ({"params": jnp.ones((3, 2))}, "an array, got dict; a tree of stacked"),
                (nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(0))), "an array, got State"),
                (FIT, "an array, got Fit; a tree of stacked arrays is given as [jax.t"),
                (tg.hard(CLASSES), "an array, got _Hard"),
                (0.1, "an array, got float"),
                (jnp.ones(()), "an array, got Array"),
            )
        ),
    ],
    "train_many": [
        (lambda: train(hyperparameters=each([0.1, 0.2])), T, "optimizer: with hyperpa"),
        (lambda: train(devices=None), V, "something that differs, as `each`"),
        (lambda: train(key=each([])), V, "`each` of at least 1 value"),
        (
            lambda: train(key=each([KEY] * 2), variables_2=each([0] * 3)),
            V,
            "as many values in every `each`, got {'variables_2': 3, 'key': 2}",
        ),
        (
            lambda: train(x=each([jnp.ones((4, 5)), jnp.ones((6, 5))])),
            V,
            "x: expected the same number of samples in each, got [4, 6]",
        ),
        (lambda: train(key=each([KEY] * 2), devices=[]), V, "devices: expected differ"),
        (
            lambda: train(key=each([KEY] * 2), devices=DEVICES[:1] * 2),
            V,
            "devices: expected different devices of this process",
        ),
        (
            lambda: train(key=each([KEY] * 2), devices=DEVICES[:3]),
            V,
            "devices: expected a number that divides the 2 stitches, got 3",
        ),
        (
            lambda: train(target=UNEQUAL, devices=DEVICES[:2]),
            V,
            "devices: expected None, as the trees of the stitches differ",
        ),
    ],
    # Of `stitching.layers`.
    "Affine": [
        *no_features(ly.Affine(0)),
        (lambda: ly.Affine(3).init(KEY, 1.0), V, "expected channels as the last axis"),
        *several(lambda a: ly.Affine(3).init(KEY, a), "activation"),
        (
            lambda: ly.Affine(3).apply(ly.Affine(3).init(KEY, X), NARROW),
            V,
            "activation: expected 3 channels as the variables have, got 2",
        ),
    ],
    "FixedMatching": no_features(ly.FixedMatching(0)),
    "LowRank": [
        (lambda: ly.LowRank(2, rank=0).init(KEY, X), V, "rank: expected 1 to 2 for a"),
        (lambda: ly.LowRank(8, rank=4).init(KEY, X), V, "rank: expected 1 to 3 for a"),
    ],
    "MaskedAffine": no_features(ly.MaskedAffine(0)),
    "Matching": no_features(ly.Matching(0)),
    "Orthogonal": [
        *no_features(ly.Orthogonal(0)),
        (
            lambda: ly.Orthogonal(3).apply(ly.Orthogonal(3).init(KEY, X), NARROW),
            V,
            "activation: expected 3 channels as the variables have, got 2",
        ),
    ],
    "Sparse": [
        *no_features(ly.Sparse(0, penalty=1.0)),
        (lambda: ly.Sparse(2, penalty=-1.0).proximal(0.1), V, f"penalty: {NEGATIVE}"),
    ],
    "from_fit": [
        (lambda: ly.from_fit(3, FIT), T, NO_LAYER),
        (lambda: ly.from_fit(ly.Affine(9), FIT), V, "fit: expected a weight of shape"),
        (
            lambda: ly.from_fit(ly.Affine(3), t.sparse_path(PAIR, jnp.ones(2))),
            V,
            "as the layer has features, got (2, 3, 3)",
        ),
    ],
    "identity": [
        (lambda: ly.identity(KEY, (3,)), V, "shape: expected (in, out), got (3,)"),
    ],
    "random_permutation": [
        (lambda: ly.random_permutation(KEY, (3, 3, 3)), V, "shape: expected (in, out)"),
    ],
    "proximal_l1": [
        (lambda: ly.proximal_l1(-1.0, 0.1), V, f"penalty: {NEGATIVE}"),
        (lambda: ly.proximal_l1("much", 0.1), T, "penalty: expected real numbers"),
        (lambda: ly.proximal_l1(0.1, -1.0), V, f"learning_rate: {NEGATIVE}"),
        (
            lambda: ly.proximal_l1(0.1, 0.1).init({"bias": ROW}),
            V,
            "params: expected a leaf named 'kernel' to penalise, got none; give a mask",
        ),
        (
            lambda: ly.proximal_l1(0.1, 0.1).update(
                {"kernel": ROW}, ly.proximal_l1(0.1, 0.1).init({"kernel": ROW})
            ),
            V,
            "params: expected the parameters, got None",
        ),
    ],
    "map_to_tokens": [
        (lambda: ly.map_to_tokens(MAP, class_token="drop"), V, "class_token: expected"),
        (lambda: ly.map_to_tokens(X, class_token="none"), V, "activation: expected sh"),
    ],
    "resize": [
        *several(lambda a: ly.resize(a, (2, 2), method="linear"), "activation"),
        (lambda: ly.resize(MAP, (0, 2), method="linear"), V, "size: expected positive"),
        (lambda: ly.resize(MAP, (2, 2), method="best"), V, "method: expected one of n"),
        (lambda: ly.resize(X, (2, 2), method="linear"), V, "activation: expected shap"),
    ],
    "resize_tokens": [
        (
            lambda: ly.resize_tokens(
                TOKENS, (4, 4), (2, 2), method="linear", class_token="none"
            ),
            V,
            "activation: expected 16 tokens for a map of size (4, 4)",
        ),
        (
            lambda: ly.resize_tokens(
                TOKENS, (4, 4), (2, 2), method="linear", class_token="drop"
            ),
            V,
            "class_token: expected 'none' or 'keep', got 'drop'",
        ),
    ],
    "tokens_to_map": [
        (
            lambda: ly.tokens_to_map(TOKENS, (4, 4), class_token="drop"),
            V,
            "activation: expected 17 tokens for a map of size (4, 4) and class_token",
        ),
        (
            lambda: ly.tokens_to_map(TOKENS, (4, 4), class_token="keep"),
            V,
            "class_token: expected 'none' or 'drop', got 'keep'",
        ),
    ],
    "to_nnx": [(lambda: ly.to_nnx(3, {}), T, NO_LAYER)],
    # Of `stitching.similarity`.
    "RBF": [
        (lambda: si.RBF(-1.0), V, "threshold: expected a positive number, got -1"),
        (lambda: si.RBF()(ROW), V, f"x: {NOT_TWO}"),
    ],
    "bootstrap": [
        *of_samples(lambda x, y: si.bootstrap(si.cka, x, y, key=KEY)),
        (
            lambda: si.bootstrap(si.cka, X[:5], X[:5], key=KEY),
            V,
            "at least 6 samples, got 5",
        ),
        (
            lambda: si.bootstrap(si.cka, X, X, key=KEY, draws=0),
            V,
            "draws: expected an integer of at least 1, got 0",
        ),
        (
            lambda: si.bootstrap(si.cka, X, X, key=KEY, level=95),
            V,
            "level: expected a number in (0, 1), got 95",
        ),
    ],
    "permutation_test": [
        *of_samples(lambda x, y: si.permutation_test(si.cka, x, y, key=KEY)),
        (
            lambda: si.permutation_test(si.cka, X, X, key=KEY, permutations=9.5),
            V,
            "permutations: expected an integer of at least 1, got 9.5",
        ),
    ],
    "canonical_correlations": of_either(si.canonical_correlations),
    "cca": of_either(si.cca),
    "cka": [
        *of_either(si.cka),
        *of_pairs(lambda *a, **k: si.cka(*a, debiased=True, **k))[-1:],
        (lambda: si.cka(X, X, kernel=3), T, "kernel: expected a function of samples,"),
        (lambda: si.cka(X, X, kernel=np.sum), V, "kernel: expected a function to a ma"),
        (lambda: si.cka(PAIR, debiased=True), T, "x: expected activations, got Moment"),
        (lambda: si.cka(PAIR, kernel=si.RBF()), T, "x: expected activations, got Mome"),
        (lambda: si.cka(X[:3], X[:3], debiased=True), V, "at least 4 samples, got 3"),
    ],
    "correlation_distance": [
        (lambda: si.correlation_distance(ROW), V, f"x: {NOT_TWO}")
    ],
    "euclidean_distance": [(lambda: si.euclidean_distance(ROW), V, f"x: {NOT_TWO}")],
    "linear": [(lambda: si.linear(ROW), V, f"x: {NOT_TWO}")],
    "flattened": [
        (lambda: si.flattened(ROW), V, "activation: expected shape (images, ..., chan"),
        *several(si.flattened, "activation"),
    ],
    "positions": [
        (lambda: si.positions(np.float32(3)), V, "one image is activation[None]"),
        *several(si.positions, "activation"),
    ],
    "linear_regression": of_either(si.linear_regression),
    "matched_correlation": [
        *of_either(si.matched_correlation),
        (lambda: jax.jit(si.matched_correlation)(X, X), T, "outside jit and vmap, or"),
    ],
    "max_correlation": of_either(si.max_correlation),
    "unit_correlations": of_either(si.unit_correlations, varies=False),
    "mutual_neighbours": [
        *of_pairs(lambda *a, **k: si.mutual_neighbours(*a, k=2, **k))[1:],
        (lambda: si.mutual_neighbours(X, X, k=0), V, "k: expected an integer from 1 t"),
        (lambda: si.mutual_neighbours(X, X, k=8), V, "k: expected an integer from 1 t"),
        (lambda: si.mutual_neighbours(X, X, k=2.0), V, "k: expected an integer from 1"),
        (
            lambda: si.mutual_neighbours(EQUAL, X, 2, distance=si.correlation_distance),
            V,
            "mutual_neighbours is not defined: distances are NaN",
        ),
        (
            lambda: si.mutual_neighbours(X, X, 2, distance=lambda x: x),
            V,
            "distance: expected a function to a matrix of shape (8, 8)",
        ),
    ],
    "pearson": [
        (lambda: si.pearson(ROW, X[:, 0]), V, "u and v: expected two vectors of")
    ],
    "spearman": [
        (lambda: si.spearman(X, X), V, "u and v: expected two vectors of one")
    ],
    "procrustes": of_either(si.procrustes),
    "pwcca": of_either(si.pwcca),
    "rsa": [
        *of_pairs(si.rsa),
        (lambda: si.rsa(X, X, distance=3), T, "distance: expected a function of sampl"),
        (lambda: si.rsa(X, X, distance=lambda x: x), V, "distance: expected a functio"),
        (lambda: si.rsa(X, EQUAL), V, "rsa is not defined: all distances in x"),
        (lambda: si.rsa(EQUAL, X), V, "(use distance=euclidean_distance)"),
    ],
    "shape_distance": [
        *of_either(si.shape_distance),
        (lambda: si.shape_distance(X, X, alpha=2.0), V, "alpha: expected a number in"),
    ],
    "svcca": [
        *of_either(si.svcca),
        (lambda: si.svcca(X, X, share=99), V, "share: expected a number in (0, 1], go"),
    ],
    # Of `stitching.targets`.
    "targets.Target": [
        (lambda: -1 * tg.hard([0]), V, "factor: expected a finite number, at least 0,"),
    ],
    "targets.hard": [
        (lambda: tg.hard([0.5]), T, "labels: expected integers, got dtype float32"),
        (lambda: tg.hard([1, -2]), V, "labels: expected at least 0, got -2"),
        (lambda: tg.hard(LABELS[:0]), V, "labels: expected at least 1, got shape (0,)"),
        (lambda: tg.hard([0, 1], weights=ROW), V, "expected one per sample, of shape"),
        (lambda: tg.hard([-1, 1], weights=np.ones(2)), V, "expected at least 0, got -"),
    ],
    "targets.soft": [
        (lambda: tg.soft(ROW), V, "logits: expected shape (samples, ..., classes), go"),
        (lambda: tg.soft(X * NAN), V, "logits: expected finite numbers, got NaN"),
        (lambda: tg.soft(X, 0.0), V, "temperature: expected a positive number, got 0"),
        (lambda: tg.soft(X * 1j), T, "logits: expected real numbers, got dtype comple"),
        (lambda: tg.soft(X, weights=-np.ones(8)), V, f"weights: {NEGATIVE}"),
    ],
    "targets.squared_error": [
        (lambda: tg.squared_error(1.0), V, "values: expected shape (samples, ...), go"),
        (lambda: tg.squared_error(X + np.inf), V, "values: expected finite numbers, g"),
        (lambda: tg.squared_error(X * 1j), T, "values: expected real numbers, got dty"),
    ],
    "targets.cka": [
        (lambda: tg.cka(ROW), V, "activation: expected shape (samples, ..., channels)"),
    ],
    # Of `stitching.report`.
    "report.accuracy": OF_LOGITS,
    "report.relative_accuracy": [
        (lambda: re.relative_accuracy(LOGITS, LOGITS[:2], LABELS), V, "got (2, 3)"),
    ],
    "report.agreement": [
        (lambda: re.agreement(LOGITS, LOGITS[:, :2]), V, "reference: expected logits"),
        (
            lambda: re.agreement(LOGITS, LOGITS, weights=-np.ones(4)),
            V,
            f"weights: {NEGATIVE}",
        ),
    ],
    "report.hits_table": [
        (lambda: re.hits_table(labels=LABELS), V, "networks: expected logits of at le"),
        (lambda: re.hits_table(LOGITS, labels=LABELS - 1), V, "labels: expected class"),
        (
            lambda: re.hits_table(LOGITS, LOGITS[:, :2], labels=LABELS),
            V,
            "networks[1]: expected logits of the same samples and classes",
        ),
    ],
    "report.cross_entropy": [
        (lambda: re.cross_entropy(LOGITS, LOGITS, 0.0), V, "temperature: expected a p"),
    ],
    "report.measures": [
        (lambda: re.measures(LOGITS, LOGITS[:2], LABELS), V, "(4, 3), got (2, 3)"),
    ],
    "report.regression_measures": [
        (lambda: re.regression_measures(X, X, NARROW), V, "stitched and values: expec"),
    ],
    "report.r_squared": [
        (lambda: re.r_squared(X, X, weights=np.zeros(8)), V, "at least one above 0, g"),
    ],
    "report.energy": [
        (lambda: re.energy(LOGITS[:0]), V, "logits: expected logits of shape (samples"),
        (lambda: re.energy(LOGITS, -1.0), V, "temperature: expected a positive number"),
    ],
    "report.mahalanobis": [
        (lambda: re.mahalanobis(X, X), T, "own: expected stitching.Moments, got ndarr"),
        (lambda: re.mahalanobis(NARROW, ALONE), V, "activation: expected 3 channels o"),
        (lambda: re.mahalanobis(X, ALONE, shrinkage=2.0), V, "shrinkage: expected a n"),
        (lambda: re.mahalanobis(X, t.moments(X[:1])), V, "own: expected an activation"),
        (lambda: re.mahalanobis(X, t.moments(WITH_NAN)), V, "own: expected an activat"),
    ],
    "report.per_image": [
        (lambda: re.per_image(1.0), V, "scores: expected shape (images, ...), got ()"),
    ],
    "report.out_of_distribution": [
        (lambda: re.out_of_distribution(X, ROW), V, "for positions take report.per_im"),
        (lambda: re.out_of_distribution(ROW, ROW[:0]), V, "own: expected one score pe"),
        (lambda: re.out_of_distribution(ROW, ROW * NAN), V, "own: expected finite sco"),
    ],
    "report.identification": [
        (lambda: re.identification(X), V, "scores: expected a square matrix (layers,"),
    ],
    "report.layer_scores": [
        (lambda: re.layer_scores(np.dot, [], [X]), V, "layers_1 and layers_2: expecte"),
        (lambda: re.layer_scores(np.dot, [X], [X.T]), V, "score: expected a function"),
    ],
    "report.controls": [
        (
            lambda: re.controls(print, (X, X), (X, X), key=KEY, weights=(None, ROW)),
            V,
            "weights: expected one per sample",
        ),
    ],
    "report.gaussian_noise": [
        (
            lambda: re.gaussian_noise(KEY, X, weights=ROW),
            V,
            "weights: expected one per",
        ),
    ],
    "report.shuffled": [
        (
            lambda: re.shuffled(KEY, X, weights=-X[:, 0]),
            V,
            "weights: expected finite n",
        ),
        (lambda: re.shuffled(KEY, X, weights=X), V, "weights: expected one per sample"),
        (lambda: re.shuffled(KEY, ROW), V, "activation: expected shape (images, ...,"),
    ],
    "report.audit": [
        (lambda: re.audit(3, None, {}, {}, (X,), (X,), key=KEY), T, NOT_OURS),
        (lambda: audit_networks((slice(30),)), V, "not in train, got 6 that are"),
        (lambda: audit_networks((slice(48),)), V, "not in train, got 24 that are"),
        (lambda: audit_networks(3), T, "train: expected (x, labels) or (x, labels, we"),
        *(
            (
                lambda m=m: audit_nnx(m),
                V,
                f"(24, 7), to one like it, for the self-stitch, got the NNX module {n}",
            )
            for m, n in (
                (nnx.Linear(9, 7, rngs=nnx.Rngs(0)), "Linear"),
                (
                    nnx.Sequential(nnx.Linear(9, 7, rngs=nnx.Rngs(0)), nnx.relu),
                    "Sequential",
                ),
            )
        ),
    ],
    "report.audit_activations": [
        (lambda: audit(source=X), T, "source: expected a pair (seen, held_out), got n"),
        (lambda: audit(own=(X[:4], X[:4])), V, "own: expected held-out activations of"),
        (lambda: audit(source=(X[:4], NARROW[4:])), V, "source: expected activations"),
        (lambda: audit(source=(X[:3], X[4:])), V, "same samples, got (3, 4) and (4, 4"),
        (lambda: audit(untrained=(X[:3], X[4:])), V, "untrained and own: expected the"),
        (lambda: audit(labels=np.tile(LABELS, 2)), V, "labels: expected shape (4,)"),
        (lambda: audit(source=(NARROW[:4], NARROW[4:])), V, "method: expected a map t"),
    ],
    # Of `stitching.plot`.
    "plot.over_layers": [
        (lambda: plot.over_layers([1.0, 2.0], ["a"]), V, "layers: expected 2 names, g"),
    ],
    "plot.layer_to_layer": [
        (lambda: plot.layer_to_layer([1.0, 2.0]), V, "scores: expected a matrix, got"),
    ],
}
# What only holds values, is there to be derived from, or fails as what it calls does.
CANNOT_FAIL = {
    *("Bootstrap", "Cut", "CutPoint", "LayerMatrix", "LayerMoments", "Moments"),
    *("PermutationTest", "StitchingLayer", "Stitched", "Trained", "plot.audit"),
    *("report.Audit", "report.Controls", "report.Identification", "report.Measures"),
    *("report.OutOfDistribution", "report.RegressionMeasures", "report.TaskLoss"),
}


@each_row(BAD)
def test_bad_input_is_rejected_by_name(row):
    check_rejected(row, stitching)


def test_nothing_is_left_out():
    modules = {"": (stitching, layers, similarity), "report.": (report,)}
    modules |= {"targets.": (targets,), "plot.": (plot,)}
    public = {
        prefix + name
        for prefix, those in modules.items()
        for module in those
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
    }
    assert public == BAD.keys() | CANNOT_FAIL
    assert not BAD.keys() & CANNOT_FAIL
