"""What a function closes over gives the same inside `jit` as outside.

Whatever is computed from it there is traced, the conditions of checks as well.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stitching
from stitching import report, similarity, targets

X, Y, LOGITS = np.random.default_rng(0).normal(size=(3, 12, 4)).astype(np.float32)
LABELS = jnp.arange(12) % 4
MASK = jnp.ones(12).at[3].set(0)

# From an array that is traced, and others that are known.
CALLS = {
    "accuracy": lambda z, labels, mask: report.accuracy(z, labels, weights=mask),
    "hits_table": lambda z, labels, mask: report.hits_table(
        z, z, labels=labels, weights=mask
    ),
    "r_squared": lambda z, labels, mask: report.r_squared(z, 2 * z, weights=mask),
    "per_image": lambda z, labels, mask: report.per_image(z, weights=mask),
    "shuffled": lambda z, labels, mask: report.shuffled(
        jax.random.key(0), z, weights=mask
    ),
    "hard": lambda z, labels, mask: targets.hard(labels).loss(z, None),
    "hard, weighted": lambda z, labels, mask: targets.hard(labels, weights=mask).loss(
        z, None
    ),
    "a check of labels": lambda z, labels, mask: targets.hard(labels).check(z, None),
    "moments": lambda z, labels, mask: stitching.moments(z, z**2, weights=mask),
    "cka": lambda z, labels, mask: similarity.cka(z, z**2, weights=mask),
    "cka, weighted": lambda z, labels, mask: similarity.cka(
        z, z**2, weights=labels + mask
    ),
    "rsa": lambda z, labels, mask: similarity.rsa(z, z**2, weights=mask),
    "rsa, booleans of NumPy": lambda z, labels, mask: similarity.rsa(
        z, z**2, weights=np.arange(12) != 3
    ),
}
FROM_MOMENTS = {
    "permutation": lambda z, seen: stitching.permutation(seen)(z),
    "permutation by correlation": lambda z, seen: stitching.permutation(
        seen, by="correlation"
    )(z),
    "reduced_rank": lambda z, seen: stitching.reduced_rank(seen).rank(2)(z),
    "matched_correlation": lambda z, seen: z[0] * similarity.matched_correlation(seen),
}


@pytest.mark.parametrize("name", CALLS)
def test_labels_and_weights_may_be_closed_over(name):
    traced = jax.jit(lambda z: CALLS[name](z, LABELS, MASK))
    same(traced(LOGITS), CALLS[name](LOGITS, LABELS, MASK))


@pytest.mark.parametrize("name", FROM_MOMENTS)
def test_moments_may_be_closed_over(name):
    seen = stitching.moments(X, Y)
    traced = jax.jit(lambda z: FROM_MOMENTS[name](z, seen))
    same(traced(LOGITS), FROM_MOMENTS[name](LOGITS, seen))


def test_numbers_may_be_closed_over():
    temperature = jnp.float32(2)
    traced = jax.jit(lambda z: report.cross_entropy(z, LOGITS, temperature))
    same(traced(X), report.cross_entropy(X, LOGITS, temperature))


def test_what_is_closed_over_is_checked():
    wrong, nothing = LABELS - 1, 0 * MASK
    with pytest.raises(ValueError, match=r"labels: expected .* got -1"):
        jax.jit(lambda z: report.accuracy(z, wrong))(LOGITS)
    with pytest.raises(ValueError, match=r"weights: .* at least one above 0, got none"):
        jax.jit(lambda z: report.r_squared(z, z, weights=nothing))(LOGITS)


def same(found, wanted):
    for one, other in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
