"""What users get wrong is refused, saying what came and what was expected."""

import jax
import numpy as np
import pytest

import stitching
from stitching import report

LOGITS = np.eye(3)[[0, 1, 2, 0]]
LABELS = np.array([0, 1, 2, 0])
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
SEEN = stitching.moments(X)
KEY = jax.random.key(0)


def call(function, *args, **options):
    return lambda: function(*args, **options)


def audit(**changed):
    given = {
        "method": lambda x, y: lambda activation: activation,
        "source": (X[:4], X[4:]),
        "own": (X[:4], X[4:]),
        "back": lambda activation: activation,
        "labels": LABELS,
    }
    return call(report.audit_activations, **(given | changed), key=KEY)


BAD = {
    "one axis of logits": (
        call(report.accuracy, LOGITS[0], LABELS),
        ValueError,
        r"logits: .*\(samples, classes\).* got \(3,\)",
    ),
    "no samples": (
        call(report.energy, LOGITS[:0]),
        ValueError,
        r"logits: .* got \(0, 3\)",
    ),
    "complex logits": (
        call(report.accuracy, LOGITS * 1j, LABELS),
        TypeError,
        "logits: .* complex",
    ),
    "other classes": (
        call(report.agreement, LOGITS, LOGITS[:, :2]),
        ValueError,
        r"stitched and reference: .*\(4, 3\) and \(4, 2\)",
    ),
    "other samples": (
        call(report.measures, LOGITS, LOGITS[:2], LABELS),
        ValueError,
        r"stitched and reference: .*\(4, 3\) and \(2, 3\)",
    ),
    "one-hot labels": (
        call(report.accuracy, LOGITS, LOGITS),
        TypeError,
        "labels: expected integers, got float",
    ),
    "too few labels": (
        call(report.accuracy, LOGITS, LABELS[:2]),
        ValueError,
        r"labels: expected shape \(4,\).* got \(2,\)",
    ),
    "labels from 1": (
        call(report.accuracy, LOGITS, LABELS + 1),
        ValueError,
        "labels: expected classes from 0 to 2, got 1 to 3",
    ),
    "negative labels": (
        call(report.hits_table, LOGITS, labels=LABELS - 1),
        ValueError,
        "labels: .* got -1 to 1",
    ),
    "no networks": (
        call(report.hits_table, labels=LABELS),
        ValueError,
        "networks: .* got none",
    ),
    "networks of other classes": (
        call(report.hits_table, LOGITS, LOGITS[:, :2], labels=LABELS),
        ValueError,
        r"networks: .* \(4, 2\), \(4, 3\)",
    ),
    "temperature of 0": (
        call(report.cross_entropy, LOGITS, LOGITS, 0.0),
        ValueError,
        "temperature: .* got 0.0",
    ),
    "negative temperature": (
        call(report.energy, LOGITS, temperature=-1.0),
        ValueError,
        "temperature: .* got -1.0",
    ),
    "activations for moments": (
        call(report.mahalanobis, X, X),
        TypeError,
        r"own: expected stitching.Moments, got ndarray; .*moments\(own\)",
    ),
    "other channels": (
        call(report.mahalanobis, X[:, :2], SEEN),
        ValueError,
        r"activation: expected 3 channels .* got shape \(8, 2\)",
    ),
    "shrinkage of 2": (
        call(report.mahalanobis, X, SEEN, shrinkage=2.0),
        ValueError,
        r"shrinkage: .*\[0, 1\], got 2.0",
    ),
    "one own sample": (
        call(report.mahalanobis, X, stitching.moments(X[:1])),
        ValueError,
        "own: .* without variance",
    ),
    "own moments with NaN": (
        call(report.mahalanobis, X, stitching.moments(X * np.nan)),
        ValueError,
        "own: .* NaN",
    ),
    "scores of positions": (
        call(report.out_of_distribution, X, X[:, 0]),
        ValueError,
        r"scores: .* got \(8, 3\); .*per_image\(scores\)",
    ),
    "no own scores": (
        call(report.out_of_distribution, X[:, 0], X[:0, 0]),
        ValueError,
        r"own: .* got \(0,\)",
    ),
    "own scores with NaN": (
        call(report.out_of_distribution, X[:, 0], X[:, 0] * np.nan),
        ValueError,
        "own: expected finite scores",
    ),
    "one score of an image": (
        call(report.per_image, 1.0),
        ValueError,
        r"scores: .* got \(\)",
    ),
    "scores that are not square": (
        call(report.identification, X),
        ValueError,
        r"scores: expected a square matrix .* got \(8, 3\)",
    ),
    "no layers": (
        call(report.layer_scores, np.dot, [], [X]),
        ValueError,
        "layers_1 and layers_2: .* got 0 and 1",
    ),
    "a score that is no scalar": (
        call(report.layer_scores, np.dot, [X], [X.T]),
        ValueError,
        r"score: expected a function to a scalar, got one to shape \(8, 8\)",
    ),
    "weights of other samples": (
        call(report.accuracy, LOGITS, LABELS, weights=np.ones(3)),
        ValueError,
        r"weights: expected one per sample, of shape \(4,\) .* got \(3,\)",
    ),
    "negative weights": (
        call(report.agreement, LOGITS, LOGITS, weights=-np.ones(4)),
        ValueError,
        "weights: expected finite numbers, at least 0",
    ),
    "no weight at all": (
        call(report.r_squared, X, X, weights=np.zeros(8)),
        ValueError,
        "weights: expected at least one above 0, got none",
    ),
    "values of another shape": (
        call(report.regression_measures, X, X, X[:, :2]),
        ValueError,
        r"stitched and values: expected the same shape .* \(8, 3\) and \(8, 2\)",
    ),
    "shuffling a vector": (
        call(report.shuffled, KEY, X[0]),
        ValueError,
        r"activation: .* got \(3,\)",
    ),
    "an audit of one activation": (
        audit(source=X),
        TypeError,
        r"source: expected a pair .* got ndarray",
    ),
    "an audit on the samples of the fit": (
        audit(own=(X[:4], X[:4])),
        ValueError,
        "own: expected held-out activations of other samples .* got 4 that are all",
    ),
    "an audit of two layers": (
        audit(source=(X[:4], X[4:, :2])),
        ValueError,
        r"source: .* of one layer, got shapes \(4, 3\) and \(4, 2\)",
    ),
    "an audit of other samples": (
        audit(source=(X[:3], X[4:])),
        ValueError,
        r"source and own: .* \(3, 4\) and \(4, 4\)",
    ),
    "an untrained network on other samples": (
        audit(untrained=(X[:3], X[4:])),
        ValueError,
        r"untrained and own: .* \(3, 4\) and \(4, 4\)",
    ),
    "an audit with the labels of all": (
        audit(labels=np.tile(LABELS, 2)),
        ValueError,
        r"labels: expected shape \(4,\).* got \(8,\)",
    ),
    "a map to other channels": (
        audit(source=(X[:4, :2], X[4:, :2])),
        ValueError,
        r"method: .* of shape \(4, 3\), got \(4, 2\)",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused(bad):
    call, error, words = BAD[bad]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", report.__all__)
def test_every_public_function_says_what_it_takes_and_shows_it(name):
    thing = getattr(report, name)
    words = ("Attributes:",) if isinstance(thing, type) else ("Returns:", "Example:")
    for word in words:
        assert word in thing.__doc__
