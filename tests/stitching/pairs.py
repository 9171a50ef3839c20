"""The indices under test, and a pair of activations for them.

All float64 tests use arrays of one shape, so that every operation is compiled once.
"""

import functools

import numpy as np

from stitching import similarity

_p = functools.partial
FROM_MOMENTS = {
    "cka": similarity.cka,
    "cca": similarity.cca,
    "cca, not centred": _p(similarity.cca, centred=False),
    "canonical_correlations": similarity.canonical_correlations,
    "svcca": similarity.svcca,
    "svcca, share 0.8": _p(similarity.svcca, share=0.8),
    "pwcca": similarity.pwcca,
    "linear_regression": similarity.linear_regression,
    "procrustes": similarity.procrustes,
    "shape_distance": similarity.shape_distance,
    "shape_distance, half": _p(similarity.shape_distance, alpha=0.5),
    "shape_distance, whitened": _p(similarity.shape_distance, alpha=0.0),
    "unit_correlations": similarity.unit_correlations,
    "max_correlation": similarity.max_correlation,
    "matched_correlation": similarity.matched_correlation,
}
FROM_SAMPLES = {
    "cka, debiased": _p(similarity.cka, debiased=True),
    "cka, RBF": _p(similarity.cka, kernel=similarity.RBF(0.5)),
    "rsa": similarity.rsa,
    "rsa, Euclidean": _p(
        similarity.rsa,
        distance=similarity.euclidean_distance,
        compare=similarity.pearson,
    ),
    "mutual_neighbours": _p(similarity.mutual_neighbours, k=3),
}
ALL = FROM_MOMENTS | FROM_SAMPLES
DISTANCES = {name for name in ALL if name.startswith(("procrustes", "shape"))}


def draw(n=40, p=6, q=5, seed=0, decay=2.0):
    """A pair that has something in common, with spectra that fall off."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) @ (rng.normal(size=(p, p)) * decay ** -np.arange(p))
    y = np.tanh(x @ rng.normal(size=(p, q))) + 0.3 * rng.normal(size=(n, q))
    return x + rng.normal(size=p), y + rng.normal(size=q)


def centred(x):
    return x - x.mean(axis=0)
