"""Input validation: the argument, what was expected, what came.

One table for moments, cuts, direct fits, layers and similarity indices, which
`test_nothing_is_left_out` keeps complete. Training, targets and the report have theirs
beside their own tests.
"""

import inspect

import flax.linen as nn
import jax
import numpy as np

import stitching
from stitching import layers, similarity
from tests.bad_input import check_refused, each_row

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
FEWER, NARROW, ROW = X[:4], X[:, :2], X[0]
MAP, TOKENS = np.ones((2, 4, 4, 3), np.float32), np.ones((2, 15, 3), np.float32)
KEY, NAN = jax.random.key(0), float("nan")
PAIR, UNEVEN = stitching.moments(X, X + 1), stitching.moments(NARROW, X)
FIT, OTHER = stitching.least_squares(PAIR), stitching.least_squares(UNEVEN)

NO_MOMENTS = "moments: expected stitching.Moments, got ndarray"
OTHER_FIT = "moments: expected (2, 3) channels as the fit has, got (3, 3)"
NEGATIVE = "expected finite, at least 0, got -1.0"
NOT_TWO = "expected shape (samples, features), got (3,)"
NO_MODULE = (
    "module: expected an instance of flax.linen.Module or flax.nnx.Module, got 3"
)
NO_FEATURES = "features: expected at least 1, got 0"


def made(layer):
    """What is wrong with a layer is told when it meets an activation."""
    return layer.init(KEY, X)


def of_pairs(index):
    """What every index of two activations refuses."""
    return [
        (lambda: index(X, FEWER), ValueError, "expected the same samples in the same"),
        (lambda: index(ROW, ROW), ValueError, f"x: {NOT_TWO}"),
        (lambda: index(X, ROW), ValueError, "y: expected shape (samples, features)"),
        (lambda: index(X * NAN, X), ValueError, "x: expected finite numbers, got NaN"),
        (lambda: index(X * 1j, X), TypeError, "x: expected"),
    ]


def of_moments(index):
    """What every index that can be had from moments refuses besides."""
    return [
        *of_pairs(index),
        (lambda: index(X), TypeError, "y: expected an activation"),
    ]


# Of each public function: calls, what they raise, and what must be said.
A_LIST = "x: expected an array, or a tuple of several inputs, got a list"
t, ly, si = stitching, layers, similarity
BAD = {
    "cut": [
        (lambda: t.cut(3, "a", X), TypeError, NO_MODULE),
        (lambda: t.cut(nn.Dense(2), "nothing", X), ValueError, "'nothing'"),
        (lambda: t.cut(nn.Dense(2), None, X), TypeError, "path: expected the path"),
        (lambda: t.cut(nn.Dense(2), "", [X, X]), TypeError, A_LIST),
    ],
    "cut_points": [
        (lambda: t.cut_points(3, {}, X), TypeError, NO_MODULE),
        (lambda: t.cut_points(nn.Dense(2), {}, [X]), TypeError, A_LIST),
    ],
    "Fit": [(lambda: FIT(NARROW), ValueError, "activation: expected (3,) channels as")],
    **{
        each.__name__: [
            (lambda each=each: each(3, {}, 3, {}, [X]), TypeError, NO_MODULE),
            (
                lambda each=each: each(nn.Dense(2), {}, nn.Dense(2), {}, []),
                ValueError,
                "batches: expected at least 1 batch, got none",
            ),
        ]
        for each in (t.layer_cka, t.layer_moments)
    },
    "kkt_violation": [
        (lambda: t.kkt_violation(FIT, PAIR, -1.0), ValueError, f"penalty: {NEGATIVE}"),
        (lambda: t.kkt_violation(OTHER, PAIR, 1.0), ValueError, OTHER_FIT),
    ],
    "largest_penalty": [(lambda: t.largest_penalty(X), TypeError, NO_MOMENTS)],
    "least_squares": [
        (lambda: t.least_squares(X), TypeError, NO_MOMENTS),
        (lambda: t.least_squares(PAIR, -1.0), ValueError, f"ridge: {NEGATIVE}"),
        (
            lambda: t.least_squares(PAIR, NAN),
            ValueError,
            "ridge: expected finite, at le",
        ),
        (lambda: t.least_squares(t.moments(X)), ValueError, "expected those of a pair"),
    ],
    "merge": [
        (lambda: t.merge(PAIR, UNEVEN), ValueError, "more: expected moments of (3, 3)"),
        (
            lambda: t.merge(PAIR, 3),
            TypeError,
            "more: expected stitching.Moments, got int",
        ),
        (
            lambda: t.merge(X, PAIR),
            TypeError,
            "moments: expected stitching.Moments, got",
        ),
    ],
    "moments": [
        (
            lambda: t.moments(X, FEWER),
            ValueError,
            "expected the same samples, that is eq",
        ),
        (lambda: t.moments(X[:0]), ValueError, "x: expected at least 1 sample, got 0"),
        (lambda: t.moments(3.0), ValueError, "expected shape (samples, channels)"),
        (lambda: t.moments(X * 1j), TypeError, "x: expected"),
    ],
    "orthogonal": [(lambda: t.orthogonal(X), TypeError, NO_MOMENTS)],
    "permutation": [
        (lambda: t.permutation(X), TypeError, NO_MOMENTS),
        (
            lambda: t.permutation(PAIR, by="eye"),
            ValueError,
            "by: expected 'error' or 'co",
        ),
    ],
    "r_squared": [(lambda: t.r_squared(OTHER, PAIR), ValueError, OTHER_FIT)],
    "reduced_rank": [
        (lambda: t.reduced_rank(X), TypeError, NO_MOMENTS),
        (lambda: t.reduced_rank(PAIR, -1.0), ValueError, f"ridge: {NEGATIVE}"),
    ],
    "ReducedRank": [
        (
            lambda: t.reduced_rank(PAIR).rank(9),
            ValueError,
            "rank: expected 0 to 3, got 9",
        ),
    ],
    "residual": [(lambda: t.residual(OTHER, PAIR), ValueError, OTHER_FIT)],
    "semi_matching": [
        (lambda: t.semi_matching(X), TypeError, NO_MOMENTS),
        (
            lambda: t.semi_matching(PAIR, by="eye"),
            ValueError,
            "by: expected 'error' or '",
        ),
    ],
    "sparse": [
        (lambda: t.sparse(X, 0.1), TypeError, NO_MOMENTS),
        (lambda: t.sparse(PAIR, -1.0), ValueError, f"penalty: {NEGATIVE}"),
        (
            lambda: t.sparse(PAIR, 0.1, sweeps=0),
            ValueError,
            "sweeps: expected at least 1",
        ),
        (
            lambda: t.sparse(PAIR, 0.1, tolerance=-1.0),
            ValueError,
            "tolerance: expected a",
        ),
    ],
    "sparse_path": [
        (
            lambda: t.sparse_path(PAIR, X),
            ValueError,
            "penalties: expected shape (k,), got",
        ),
        (
            lambda: t.sparse_path(PAIR, np.array([-1.0])),
            ValueError,
            "penalties: expected",
        ),
    ],
    # Of `stitching.layers`.
    "Affine": [(lambda: made(ly.Affine(0)), ValueError, NO_FEATURES)],
    "FixedMatching": [(lambda: made(ly.FixedMatching(0)), ValueError, NO_FEATURES)],
    "LowRank": [
        (
            lambda: made(ly.LowRank(2, rank=0)),
            ValueError,
            "rank: expected 1 to 2 for a m",
        ),
    ],
    "MaskedAffine": [(lambda: made(ly.MaskedAffine(0)), ValueError, NO_FEATURES)],
    "Matching": [(lambda: made(ly.Matching(0)), ValueError, NO_FEATURES)],
    "Orthogonal": [(lambda: made(ly.Orthogonal(0)), ValueError, NO_FEATURES)],
    "Sparse": [
        (lambda: made(ly.Sparse(0, penalty=1.0)), ValueError, NO_FEATURES),
        (
            lambda: ly.Sparse(2, penalty=-1.0).proximal(0.1),
            ValueError,
            "penalty: expected at least 0, got -1.0",
        ),
    ],
    "from_fit": [
        (
            lambda: ly.from_fit(3, FIT),
            TypeError,
            "layer: expected a stitching layer, got",
        ),
        (
            lambda: ly.from_fit(ly.Affine(9), FIT),
            ValueError,
            "fit: expected a weight of s",
        ),
    ],
    "identity": [
        (
            lambda: ly.identity(KEY, (3,)),
            ValueError,
            "shape: expected (in, out), got (3,)",
        ),
    ],
    "map_to_tokens": [
        (
            lambda: ly.map_to_tokens(MAP, class_token="a"),
            ValueError,
            "class_token: expecte",
        ),
        (
            lambda: ly.map_to_tokens(X, class_token="none"),
            ValueError,
            "activation: expected",
        ),
    ],
    "proximal_l1": [
        (
            lambda: ly.proximal_l1(-1.0, 0.1),
            ValueError,
            "penalty: expected at least 0, got",
        ),
        (
            lambda: ly.proximal_l1(0.1, -1.0),
            ValueError,
            "learning_rate: expected at least",
        ),
    ],
    "random_permutation": [
        (
            lambda: ly.random_permutation(KEY, (3, 3, 3)),
            ValueError,
            "shape: expected (in,",
        ),
    ],
    "resize": [
        (
            lambda: ly.resize(MAP, (0, 2), method="linear"),
            ValueError,
            "size: expected posit",
        ),
        (
            lambda: ly.resize(MAP, (2, 2), method="best"),
            ValueError,
            "method: expected one of",
        ),
        (
            lambda: ly.resize(X, (2, 2), method="linear"),
            ValueError,
            "activation: expected",
        ),
    ],
    "resize_tokens": [
        (
            lambda: ly.resize_tokens(
                TOKENS, (4, 4), (2, 2), method="linear", class_token="none"
            ),
            ValueError,
            "activation: expected 16 tokens for a map of size (4, 4)",
        ),
    ],
    "to_nnx": [(lambda: ly.to_nnx(3, {}), TypeError, "layer: expected a stitching")],
    "tokens_to_map": [
        (
            lambda: ly.tokens_to_map(TOKENS, (4, 4), class_token="drop"),
            ValueError,
            "activation: expected 17 tokens for a map of size (4, 4)",
        ),
    ],
    # Of `stitching.similarity`.
    "RBF": [
        (
            lambda: si.RBF(-1.0),
            ValueError,
            "threshold: expected a positive number, got -1",
        ),
        (lambda: si.RBF()(ROW), ValueError, f"x: {NOT_TWO}"),
    ],
    "bootstrap": [
        *of_pairs(lambda x, y: si.bootstrap(si.cka, x, y, key=KEY)),
        (
            lambda: si.bootstrap(si.cka, X[:5], X[:5], key=KEY),
            ValueError,
            "x and y: expected at least 6 samples, got 5",
        ),
        (
            lambda: si.bootstrap(si.cka, X, X, key=KEY, draws=0),
            ValueError,
            "draws: expected an integer of at least 1, got 0",
        ),
        (
            lambda: si.bootstrap(si.cka, X, X, key=KEY, level=95),
            ValueError,
            "level: expected a number in (0, 1), got 95",
        ),
    ],
    "permutation_test": [
        *of_pairs(lambda x, y: si.permutation_test(si.cka, x, y, key=KEY)),
        (
            lambda: si.permutation_test(si.cka, X, X, key=KEY, permutations=9.5),
            ValueError,
            "permutations: expected an integer of at least 1, got 9.5",
        ),
    ],
    "canonical_correlations": of_moments(si.canonical_correlations),
    "cca": of_moments(si.cca),
    "cka": [
        *of_moments(si.cka),
        (
            lambda: si.cka(X, X, kernel=3),
            TypeError,
            "kernel: expected a function of sampl",
        ),
        (
            lambda: si.cka(X, X, kernel=np.sum),
            ValueError,
            "kernel: expected a function to",
        ),
        (
            lambda: si.cka(PAIR, debiased=True),
            TypeError,
            "x: expected activations, got Mo",
        ),
    ],
    "correlation_distance": [
        (lambda: si.correlation_distance(ROW), ValueError, f"x: {NOT_TWO}"),
    ],
    "euclidean_distance": [
        (lambda: si.euclidean_distance(ROW), ValueError, f"x: {NOT_TWO}"),
    ],
    "flattened": [
        (lambda: si.flattened(ROW), ValueError, "one image is activation[None]")
    ],
    "linear": [(lambda: si.linear(ROW), ValueError, f"x: {NOT_TWO}")],
    "linear_regression": of_moments(si.linear_regression),
    "matched_correlation": of_moments(si.matched_correlation),
    "max_correlation": of_moments(si.max_correlation),
    "mutual_neighbours": [
        *of_pairs(lambda x, y: si.mutual_neighbours(x, y, k=2)),
        (
            lambda: si.mutual_neighbours(X, X, k=6),
            ValueError,
            "k: expected an integer from",
        ),
    ],
    "pearson": [
        (lambda: si.pearson(ROW, X[:, 0]), ValueError, "u and v: expected two ve")
    ],
    "positions": [
        (
            lambda: si.positions(np.float32(3)),
            ValueError,
            "one image is activation[None]",
        ),
    ],
    "procrustes": of_moments(si.procrustes),
    "pwcca": of_moments(si.pwcca),
    "rsa": [
        *of_pairs(si.rsa),
        (
            lambda: si.rsa(X, X, distance=3),
            TypeError,
            "distance: expected a function of s",
        ),
    ],
    "shape_distance": [
        *of_moments(si.shape_distance),
        (
            lambda: si.shape_distance(X, X, alpha=2.0),
            ValueError,
            "alpha: expected a number",
        ),
    ],
    "spearman": [
        (lambda: si.spearman(X, X), ValueError, "u and v: expected two vectors")
    ],
    "svcca": [
        *of_moments(si.svcca),
        (
            lambda: si.svcca(X, X, share=2.0),
            ValueError,
            "share: expected a number in (0, 1",
        ),
    ],
    "unit_correlations": of_moments(si.unit_correlations),
}

# What only holds values, or is there to be derived from.
CANNOT_FAIL = {
    "Bootstrap",
    "Cut",
    "CutPoint",
    "LayerMatrix",
    "LayerMoments",
    "Moments",
    "PermutationTest",
    "StitchingLayer",
}

# Of `stitching.training`, with tests of bad input of their own.
ELSEWHERE = {
    "Stitched",
    "Trained",
    "each",
    "in_batches",
    "stitch",
    "train",
    "train_many",
}


@each_row(BAD)
def test_bad_input_is_refused_by_name(row):
    check_refused(row, stitching)


def test_nothing_is_left_out():
    public = {
        name
        for module in (stitching, layers, similarity)
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
    }
    assert public == BAD.keys() | CANNOT_FAIL | ELSEWHERE
    assert not BAD.keys() & (CANNOT_FAIL | ELSEWHERE)
