"""Distances from a network's own activations, and what they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy.spatial import distance
from scipy.stats import ortho_group
from sklearn import metrics

import stitching
from stitching import report

N, Q = 60, 5
moments = jax.jit(stitching.moments)
mahalanobis = jax.jit(report.mahalanobis, static_argnames="shrinkage")
out_of_distribution = jax.jit(report.out_of_distribution)


def draw(seed=0, n=N):
    """Own activations with a spectrum, and others."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(Q, Q)) * 2.0 ** -np.arange(Q)
    own = rng.normal(size=(n, Q)) @ mix + 3
    return own, own[::-1] + 0.5 * rng.normal(size=(n, Q))


def by_numpy(activation, own, shrinkage):
    """From the definition."""
    covariance = np.cov(own.T, bias=True)
    target = np.trace(covariance) / Q * np.eye(Q)
    inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * target)
    deviations = activation - own.mean(axis=0)
    squares = np.einsum("np,pq,nq->n", deviations, inverse, deviations)
    return squares / np.trace(inverse @ covariance)


class TestMahalanobis:
    @pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 0.5, 1.0])
    def test_it_is_the_definition(self, x64, shrinkage):
        own, other = draw()
        got = mahalanobis(other, moments(own), shrinkage=shrinkage)
        np.testing.assert_allclose(got, by_numpy(other, own, shrinkage), 1e-9)

    def test_without_shrinkage_it_is_the_distance_of_scipy_squared(self, x64):
        own, other = draw()
        got = mahalanobis(other, moments(own), shrinkage=0.0)
        inverse = np.linalg.inv(np.cov(own.T, bias=True))
        expected = distance.cdist(other, own.mean(0)[None], "mahalanobis", VI=inverse)
        np.testing.assert_allclose(got, expected[:, 0] ** 2 / Q, 1e-9)

    @pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 0.5])
    @pytest.mark.parametrize("dead", [False, True])
    def test_the_own_activations_have_mean_one(self, x64, shrinkage, dead):
        own, _ = draw()
        if dead:
            own[:, 1] = 2.0
        got = mahalanobis(own, moments(own), shrinkage=shrinkage)
        np.testing.assert_allclose(got.mean(), 1, 1e-9)

    @pytest.mark.parametrize("seed", range(3))
    def test_affine_maps_of_both_change_nothing_without_shrinkage(self, x64, seed):
        own, other = draw(seed)
        rng = np.random.default_rng(seed + 10)
        weight, bias = rng.normal(size=(Q, Q)), rng.normal(size=Q)
        before = mahalanobis(other, moments(own), shrinkage=0.0)
        after = mahalanobis(
            other @ weight + bias, moments(own @ weight + bias), shrinkage=0.0
        )
        np.testing.assert_allclose(after, before, 1e-6)

    @pytest.mark.parametrize("seed", range(3))
    def test_similarities_of_both_change_nothing_with_shrinkage(self, x64, seed):
        own, other = draw(seed)
        turn = 3 * ortho_group.rvs(Q, random_state=seed)
        before = mahalanobis(other, moments(own))
        after = mahalanobis(other @ turn - 7, moments(own @ turn - 7))
        np.testing.assert_allclose(after, before, 1e-9)
        stretched = np.array([1, 1, 1, 1, 100.0])
        moved = mahalanobis(other * stretched, moments(own * stretched))
        assert np.abs(moved - before).max() > 1e-2

    def test_leaving_along_a_dead_channel_is_seen(self, x64):
        own, _ = draw()
        own[:, 1] = 2.0
        away = own.copy()
        typical = np.sqrt(np.trace(np.cov(own.T, bias=True)) / Q)
        away[:, 1] += typical
        seen = moments(own)
        moved = mahalanobis(away, seen) - mahalanobis(own, seen)
        # One typical deviation is 1/√s of those that count there; √s of one is one.
        effective = np.trace(
            np.linalg.inv(0.999 * seen.xx + 1e-3 * typical**2 * np.eye(Q)) @ seen.xx
        )
        np.testing.assert_allclose(moved, 1000 / effective, 1e-8)
        blind = mahalanobis(away, seen, shrinkage=0.0)
        unmoved = mahalanobis(own, seen, shrinkage=0.0)
        np.testing.assert_allclose(blind, unmoved, 1e-9)

    @pytest.mark.parametrize("shrinkage", [0.0, 1e-3])
    @pytest.mark.parametrize("scale", [1e5, 1e3, 1e-5])
    def test_float32_is_safe_where_one_channel_has_another_scale(
        self, scale, shrinkage
    ):
        own, other = (x.astype(np.float32) for x in draw())
        for each in (own, other):
            each[:, 1] *= scale
        got = mahalanobis(other, moments(own), shrinkage=shrinkage)
        expected = by_numpy(other.astype(float), own.astype(float), shrinkage)
        np.testing.assert_allclose(got, expected, atol=5e-3 * expected.max())

    def test_of_a_pair_the_own_activation_is_network_2s(self):
        own, other = draw()
        of_pair = mahalanobis(other, moments(2 * own[:, :3], own))
        alone = mahalanobis(other, moments(own))
        np.testing.assert_array_equal(of_pair, alone)

    def test_each_position_of_a_map_is_scored_and_images_take_the_mean(self):
        own, other = draw()
        seen = moments(own)
        flat = mahalanobis(other, seen)
        maps = mahalanobis(other.reshape(10, 2, 3, Q), seen)
        np.testing.assert_allclose(maps, flat.reshape(10, 2, 3), 1e-6)
        np.testing.assert_allclose(
            report.per_image(maps), flat.reshape(10, 6).mean(1), 1e-6
        )

    def test_float32_is_safe_far_from_zero(self):
        own, other = draw(n=500)
        own, other = (each.astype(np.float32) + 1000 for each in (own, other))
        got = mahalanobis(other, moments(own))
        expected = by_numpy(other.astype(float), own.astype(float), 1e-3)
        np.testing.assert_allclose(got, expected, 1e-2)

    def test_it_runs_over_many_stitches(self):
        own, other = draw()
        seen = moments(own)
        many = jax.jit(jax.vmap(report.mahalanobis, (0, None)))(
            jnp.stack([own, other]), seen
        )
        np.testing.assert_allclose(many[1], mahalanobis(other, seen), 1e-4)

    @pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
    def test_samples_may_be_sharded(self, kind):
        own, other = (each.astype(np.float32) for each in draw(n=64))
        seen = moments(own)
        mesh = jax.make_mesh((8,), ("samples",), axis_types=(kind,))
        across = NamedSharding(mesh, PartitionSpec("samples"))

        @jax.jit
        def found(other, own):
            scores = [mahalanobis(each, seen) for each in (other, own)]
            return out_of_distribution(*scores)

        placed = [jax.device_put(each, across) for each in (other, own)]
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5),
            found(*placed),
            found(other, own),
        )


def test_energy_is_minus_the_logsumexp_at_a_temperature(x64):
    logits, _ = draw()
    expected = -2.0 * np.log(np.exp(logits / 2.0).sum(axis=-1))
    np.testing.assert_allclose(report.energy(logits, 2.0), expected, 1e-12)


class TestOutOfDistribution:
    @pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
    @pytest.mark.parametrize("ties", [False, True])
    def test_the_auroc_is_that_of_scikit_learn(self, shift, ties):
        rng = np.random.default_rng(0)
        scores, own = rng.normal(size=70) + shift, rng.normal(size=50)
        if ties:
            scores, own = scores.round(), own.round()
        found = out_of_distribution(scores, own)
        expected = metrics.roc_auc_score(
            np.repeat([1, 0], [70, 50]), np.concatenate([scores, own])
        )
        np.testing.assert_allclose(found.auroc, expected, 1e-6)

    def test_shares_are_beyond_the_percentiles_of_numpy(self):
        rng = np.random.default_rng(0)
        scores, own = 2 * rng.normal(size=70), rng.normal(size=50)
        found = out_of_distribution(scores, own)
        for share, got in ((95, found.beyond_95), (99, found.beyond_99)):
            expected = (scores > np.percentile(own, share)).mean()
            np.testing.assert_allclose(got, expected, 1e-6)

    def test_it_is_calibrated_in_distribution(self):
        own, _ = draw(n=3000)
        seen, held_out, fresh = (own[i * 1000 : (i + 1) * 1000] for i in range(3))
        reference = moments(seen)
        found = out_of_distribution(
            mahalanobis(fresh, reference),
            mahalanobis(held_out, reference),
        )
        # Within four standard errors.
        assert abs(found.beyond_95 - 0.05) < 0.04
        assert abs(found.beyond_99 - 0.01) < 0.02
        assert abs(found.auroc - 0.5) < 0.06
        assert abs(found.mean - 1) < 0.1

    def test_what_diverged_is_beyond_all(self):
        own = jnp.arange(50.0)
        found = out_of_distribution(own * jnp.nan, own)
        assert found.beyond_99 == found.auroc == 1
        assert found.mean == jnp.inf
