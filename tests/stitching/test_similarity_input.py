"""What users get wrong is refused, saying what came and what was expected."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import stitching
from stitching import similarity

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
WITH_NAN = np.where(np.arange(12)[:, None] == 4, np.nan, X)
CONSTANT = np.full((12, 2), 0.1, np.float32)
EVERY = (
    similarity.cka,
    similarity.cca,
    similarity.canonical_correlations,
    similarity.svcca,
    similarity.pwcca,
    similarity.linear_regression,
    similarity.procrustes,
    similarity.shape_distance,
    similarity.rsa,
    similarity.mutual_neighbours,
    similarity.max_correlation,
    similarity.matched_correlation,
)
MAP = np.ones((12, 4, 4, 3))
BAD_PAIRS = {
    "other numbers of samples": (X, X[:9], ValueError, "same samples .* 12 and 9"),
    "one axis": (X[:, 0], X, ValueError, r"x: .*\(samples, features\), got \(12,\)"),
    "four axes": (X, MAP, ValueError, r"y: .*similarity.positions\(y\)"),
    "no features": (X[:, :0], X, ValueError, r"x: .*got \(12, 0\)"),
    "NaN": (X, WITH_NAN, ValueError, "y: expected finite numbers"),
    "infinity": (X + np.inf, X, ValueError, "x: expected finite numbers"),
    "one sample": (X[:1], X[:1], ValueError, "at least [23] samples, got 1"),
    "complex": (X * 1j, X, TypeError, "x: expected real numbers, got dtype complex"),
    "text": (
        np.array([["a", "b"]] * 12),
        X,
        TypeError,
        "x: expected real numbers, got dtype <U1",
    ),
    "nothing": (X, None, TypeError, "y: .* got None"),
}


@pytest.mark.parametrize("index", EVERY)
@pytest.mark.parametrize("bad", BAD_PAIRS)
def test_bad_pairs_are_refused_by_every_index(index, bad):
    x, y, error, words = BAD_PAIRS[bad]
    with pytest.raises(error, match=words):
        index(x, y)


@pytest.mark.parametrize(
    "index", [each for each in EVERY if each is not similarity.mutual_neighbours]
)
@pytest.mark.parametrize("swapped", [False, True])
def test_what_does_not_vary_has_no_similarity(index, swapped):
    pair = (CONSTANT, X) if swapped else (X, CONSTANT)
    with pytest.raises(ValueError, match="is not defined: "):
        index(*pair)
    if index is not similarity.rsa:
        with pytest.raises(ValueError, match=r"is not defined: .* varies"):
            index(stitching.moments(*pair))


def call(function: Any, *args: Any, **options: Any) -> Callable[[], Any]:
    """A call to be made, of what a type checker would refuse."""
    return lambda: function(*args, **options)


SEEN = stitching.moments(X, X)
BAD_ARGUMENTS = {
    "k of 0": (call(similarity.mutual_neighbours, X, X, 0), ValueError, "from 1 to"),
    "k too large": (
        call(similarity.mutual_neighbours, X, X, 12),
        ValueError,
        "k: expected an integer from 1 to 11, .* got 12",
    ),
    "k not whole": (call(similarity.mutual_neighbours, X, X, 2.0), ValueError, "k: "),
    "threshold": (call(similarity.RBF, 0.0), ValueError, "threshold: .* got 0.0"),
    "share": (call(similarity.svcca, X, X, share=99), ValueError, "share: .* 99"),
    "alpha": (
        call(similarity.shape_distance, X, X, alpha=-1),
        ValueError,
        "alpha: .* got -1",
    ),
    "kernel": (
        call(similarity.cka, X, X, kernel=lambda x: x),
        ValueError,
        r"kernel: .* \(12, 12\), got one to shape \(12, 3\)",
    ),
    "distance": (
        call(similarity.rsa, X, X, distance=lambda x: x),
        ValueError,
        r"distance: .* \(12, 12\), got one to shape \(12, 3\)",
    ),
    "neighbours' distance": (
        call(similarity.mutual_neighbours, X, X, 2, distance=lambda x: x),
        ValueError,
        r"distance: .* \(12, 12\), got one to shape \(12, 3\)",
    ),
    "few for debiased": (
        call(similarity.cka, X[:3], X[:3], debiased=True),
        ValueError,
        "at least 4 samples, got 3",
    ),
    "a sample of equal features": (
        call(similarity.rsa, np.where(np.arange(12)[:, None] == 3, 0.1, X), X),
        ValueError,
        "use distance=euclidean_distance",
    ),
    "moments, debiased": (
        call(similarity.cka, SEEN, debiased=True),
        TypeError,
        "x: expected activations, got Moments",
    ),
    "moments, RBF": (
        call(similarity.cka, SEEN, kernel=similarity.RBF()),
        TypeError,
        "x: expected activations, got Moments",
    ),
    "moments twice": (
        call(similarity.cca, SEEN, SEEN),
        TypeError,
        "y: expected None",
    ),
    "moments for RSA": (
        call(similarity.rsa, SEEN, X),
        TypeError,
        "x: .* got Moments",
    ),
    "moments of one": (
        call(similarity.cka, stitching.moments(X)),
        ValueError,
        "moments of a pair, got those of one",
    ),
    "moments of one sample": (
        call(similarity.cka, stitching.moments(X[:1], X[:1])),
        ValueError,
        "at least 2 samples, got 1",
    ),
    "moments with NaN": (
        call(similarity.cka, stitching.moments(WITH_NAN, X)),
        ValueError,
        "expected finite moments",
    ),
    "assignment under jit": (
        call(jax.jit(similarity.matched_correlation), X, X),
        TypeError,
        "outside jit",
    ),
    "positions of a vector": (
        call(similarity.positions, X[0]),
        ValueError,
        r"activation: .* got \(3,\)",
    ),
    "a flattened vector": (
        call(similarity.flattened, X[0]),
        ValueError,
        r"activation: .* got \(3,\)",
    ),
}


@pytest.mark.parametrize("bad", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(bad):
    call, error, words = BAD_ARGUMENTS[bad]
    with pytest.raises(error, match=words):
        call()
