"""Similarity indices give what other libraries give: on random activations, and slowly
on those of trained networks and against a library that is not among our extras."""

import functools
import warnings

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.optimize import linear_sum_assignment
from scipy.spatial import distance, procrustes
from scipy.stats import rankdata

from stitching import moments, similarity
from tests.stitching.pairs import centred, draw

RANDOM = pytest.param("random", id="random")
TRAINED = pytest.param("trained", id="trained", marks=pytest.mark.slow)


@functools.cache
def trained():
    """Hidden activations of two networks of other seeds and widths, on digits."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    activations = []
    for seed, width in ((0, 40), (1, 24)):
        network = MLPClassifier((width,), random_state=seed, max_iter=60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It has not converged: no need to.
            network.fit(images / 16, labels)
        before = images / 16 @ network.coefs_[0] + network.intercepts_[0]
        activations.append(np.maximum(before, 0)[:600])
    return tuple(activations)


@pytest.fixture(params=[RANDOM, TRAINED])
def pair(request, x64):
    return trained() if request.param == "trained" else draw()


def correlations_by_angles(x, y):
    return np.cos(subspace_angles(centred(x), centred(y)))[::-1]


def test_canonical_correlations_are_cosines_of_scipys_subspace_angles(pair):
    wanted = correlations_by_angles(*pair)
    got = similarity.canonical_correlations(*pair)
    np.testing.assert_allclose(got[: len(wanted)], wanted, atol=1e-9)
    np.testing.assert_allclose(similarity.cca(*pair), np.mean(wanted**2))
    np.testing.assert_allclose(similarity.cca(moments(*pair)), np.mean(wanted**2))


def test_canonical_correlations_are_scikit_learns(x64):
    from sklearn.cross_decomposition import CCA

    x, y = draw()
    fitted = CCA(5, max_iter=10_000, tol=1e-14).fit(x, y)
    scores = zip(*(each.T for each in fitted.transform(x, y)), strict=True)
    wanted = [np.corrcoef(a, b)[0, 1] for a, b in scores]
    got = similarity.canonical_correlations(x, y)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_svcca_is_scikit_learns_pca_and_scipys_angles(pair):
    from sklearn.decomposition import PCA

    kept = (PCA(0.99, svd_solver="full").fit_transform(each) for each in pair)
    wanted = correlations_by_angles(*kept).mean()
    np.testing.assert_allclose(similarity.svcca(*pair), wanted)


def test_linear_regression_is_scikit_learns(pair):
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import r2_score

    x, y = pair
    predicted = LinearRegression().fit(x, y).predict(x)
    wanted = r2_score(y, predicted, multioutput="variance_weighted")
    np.testing.assert_allclose(similarity.linear_regression(x, y), wanted)


def test_procrustes_is_scipys(pair):
    x, y = pair
    wider = max(x.shape[1], y.shape[1])
    padded = (np.pad(a, ((0, 0), (0, wider - a.shape[1]))) for a in (x, y))
    _, _, disparity = procrustes(*padded)
    cosine = np.sqrt(1 - disparity)  # SciPy also scales y for the best fit.
    np.testing.assert_allclose(similarity.procrustes(x, y), np.sqrt(2 - 2 * cosine))
    np.testing.assert_allclose(similarity.shape_distance(x, y), np.arccos(cosine))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_cka_is_that_of_scikit_learns_centred_kernels(pair, kernel):
    from sklearn.metrics.pairwise import linear_kernel, rbf_kernel
    from sklearn.preprocessing import KernelCenterer

    def gram(x):
        if kernel == "linear":
            return KernelCenterer().fit_transform(linear_kernel(x))
        median = np.median(distance.squareform(distance.pdist(x, "sqeuclidean")))
        return KernelCenterer().fit_transform(rbf_kernel(x, gamma=2 / median))

    k, other = (gram(each) for each in pair)
    wanted = (k * other).sum() / np.linalg.norm(k) / np.linalg.norm(other)
    ours = {"linear": similarity.linear, "rbf": similarity.RBF(0.5)}[kernel]
    np.testing.assert_allclose(similarity.cka(*pair, kernel=ours), wanted)


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
@pytest.mark.parametrize("compare", ["spearman", "pearson"])
def test_rsa_is_made_of_scipys_distances_and_correlations(pair, metric, compare):
    one, two = (distance.pdist(each, metric) for each in pair)
    if compare == "spearman":
        one, two = rankdata(one), rankdata(two)
    wanted = np.corrcoef(one, two)[0, 1]
    got = similarity.rsa(
        *pair,
        distance=getattr(similarity, f"{metric}_distance"),
        compare=getattr(similarity, compare),
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_mutual_neighbours_are_those_of_scikit_learn(pair):
    from sklearn.neighbors import NearestNeighbors

    near = [
        NearestNeighbors(n_neighbors=5).fit(each).kneighbors(return_distance=False)
        for each in pair
    ]
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(*near, strict=True)]
    got = similarity.mutual_neighbours(pair[0], pair[1], 5)
    np.testing.assert_allclose(got, np.mean(shared))


def test_correlation_matching_is_scipys_assignment_of_numpys_correlations(pair):
    x, y = (each[:, each.std(axis=0) > 0] for each in pair)
    correlations = np.corrcoef(x, y, rowvar=False)[: x.shape[1], x.shape[1] :]
    matched = linear_sum_assignment(correlations, maximize=True)
    wanted = correlations[matched].mean()
    np.testing.assert_allclose(similarity.matched_correlation(x, y), wanted)
    wanted = correlations.max(axis=1).mean()
    np.testing.assert_allclose(similarity.max_correlation(x, y), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("activations", ["random", "trained"])
def test_rsa_cka_and_procrustes_are_those_of_rsatoolbox(x64, activations):
    reason = "`pip install rsatoolbox` to compare"
    data = pytest.importorskip("rsatoolbox.data", reason=reason)
    rdm = pytest.importorskip("rsatoolbox.rdm", reason=reason)

    pair = draw(60) if activations == "random" else [a[:200] for a in trained()]
    # Of unit norm; rsatoolbox divides squared distances by the number of features.
    x, y = (centred(a) / np.linalg.norm(centred(a)) * a.shape[1] ** 0.5 for a in pair)

    def theirs(distance, comparison):
        rdms = [rdm.calc_rdm(data.Dataset(each), method=distance) for each in (x, y)]
        return rdm.compare(*rdms, method=comparison)[0, 0]

    by_squares = {
        "distance": lambda a: similarity.euclidean_distance(a) ** 2,
        "compare": similarity.pearson,
    }
    compared = {
        "rsa": (similarity.rsa(x, y), theirs("correlation", "spearman")),
        "rsa of squares": (
            similarity.rsa(x, y, **by_squares),
            theirs("euclidean", "corr"),
        ),
        "cka": (similarity.cka(x, y), theirs("euclidean", "cosine_cov")),
        "cosine": (
            np.cos(similarity.shape_distance(x, y)),
            theirs("euclidean", "bures"),
        ),
        # What rsatoolbox calls a metric is its square.
        "chord": (
            similarity.procrustes(x, y) ** 2,
            theirs("euclidean", "bures_metric"),
        ),
    }
    for name, (got, wanted) in compared.items():
        np.testing.assert_allclose(got, wanted, rtol=1e-5, err_msg=name)
