"""The first value comes soon: a call compiles one or two programs, not dozens."""

import jax
import numpy as np
import pytest

import stitching
from stitching import report
from tests.compilations import compilations
from tests.stitching.pairs import ALL, FROM_MOMENTS, draw

# A kernel is a program of its own, for each number of features; an assignment that the
# host has found is brought back to the device.
MORE = {"cka, RBF": 4, "matched_correlation": 3}
LABELS = np.arange(40) % 5
ON_LOGITS = {
    "accuracy": lambda x, y: report.accuracy(x, LABELS[: len(x)]),
    "relative_accuracy": lambda x, y: report.relative_accuracy(x, y, LABELS[: len(x)]),
    "agreement": report.agreement,
    "hits_table": lambda x, y: report.hits_table(x, y, labels=LABELS[: len(x)]),
    "cross_entropy": report.cross_entropy,
    "energy": lambda x, y: report.energy(x),
    "measures": lambda x, y: report.measures(x, y, LABELS[: len(x)]),
    "out_of_distribution": lambda x, y: report.out_of_distribution(
        np.asarray(x)[:, 0], np.asarray(y)[:, 0]
    ),
}


def fresh(case, cases, **shape):
    """A pair on the device, with a number of samples that no other case has."""
    n = 21 + sorted(cases).index(case)
    return jax.device_put([each.astype(np.float32) for each in draw(n=n, **shape)])


@pytest.mark.parametrize("name", ALL)
def test_an_index_compiles_what_checks_the_pair_and_what_computes(name):
    x, y = fresh(name, ALL)
    with compilations() as seen:
        ALL[name](x, y)
    assert 1 <= len(seen) <= MORE.get(name, 2)


def test_indices_of_one_pair_of_moments_compile_one_program_each():
    moments = stitching.moments(*draw(p=3, q=4))
    with compilations() as seen:
        for index in FROM_MOMENTS.values():
            index(moments)
    # All share what checks the moments, and two share the correlations of units.
    assert 1 < len(seen) <= len(FROM_MOMENTS)


@pytest.mark.parametrize("name", ON_LOGITS)
def test_a_measure_of_logits_compiles_at_most_four_programs(name):
    x, y = fresh(name, ON_LOGITS, p=5, q=5)
    with compilations() as seen:
        ON_LOGITS[name](x, y)
    assert 1 <= len(seen) <= 4


def test_moments_are_one_program_and_so_is_their_merging():
    x, y = fresh("cka", ALL, p=9, q=8)
    with compilations() as seen:
        moments = stitching.moments(x, y)
        stitching.merge(moments, moments)
    assert len(seen) == 2


def test_a_kernel_that_is_not_ours_is_called_each_time():
    calls = []

    def kernel(x):
        calls.append(x.shape)
        return x @ x.T * len(calls)

    x, y = draw()
    for _ in range(2):
        stitching.similarity.cka(x, y, kernel=kernel)
        stitching.similarity.rsa(
            x, y, distance=kernel, compare=stitching.similarity.pearson
        )
    assert len(calls) == 8
