"""Direct fits are the optima that they say, checked against least squares by samples,
scikit-learn, enumeration and random rivals."""

import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from sklearn.linear_model import Lasso, Ridge

import stitching

ROUNDING = 1e-10
moments = jax.jit(stitching.moments)
residual = jax.jit(stitching.residual)
r_squared = jax.jit(stitching.r_squared)
least_squares = jax.jit(stitching.least_squares)
orthogonal = jax.jit(stitching.orthogonal, static_argnames="scale")
reduced_rank = jax.jit(stitching.reduced_rank)
sparse = jax.jit(stitching.sparse, static_argnames=("tolerance", "sweeps"))
kkt_violation = jax.jit(stitching.kkt_violation)
semi_matching = jax.jit(stitching.semi_matching, static_argnames="by")


def draw(seed=0, n=60, p=6, q=6):
    """A pair that has a permuted, scaled and noisy part in common."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 5 * rng.normal(size=p)
    y = np.tanh(x @ rng.normal(size=(p, q)) / 3) + 0.5 * rng.normal(size=(n, q))
    shared = min(p, q)
    y[:, :shared] += x[:, rng.permutation(p)[:shared]]
    return x, y + rng.normal(size=q)


def error(fit, x, y):
    return float(((y - np.asarray(fit(x))) ** 2).mean())


def with_error(moments, weight):
    """The mean squared error of a weight with its best bias, a second time."""
    xx, xy, yy = (np.asarray(each) for each in moments[3:])
    weight = np.asarray(weight)
    total = yy - xy.T @ weight - weight.T @ xy + weight.T @ xx @ weight
    return np.trace(total) / len(yy)


class TestResidual:
    pytestmark = pytest.mark.usefixtures("x64")

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 999))
    def test_the_residual_from_moments_is_the_mean_squared_error(self, seed):
        x, y = draw(seed)
        rng = np.random.default_rng(seed)
        fit = stitching.Fit(
            jnp.array(rng.normal(size=(6, 6))), jnp.array(rng.normal(6))
        )
        assert residual(fit, moments(x, y)) == pytest.approx(error(fit, x, y))

    def test_the_residual_on_other_samples_is_the_held_out_error(self):
        x, y = draw()
        fit = least_squares(moments(x[:30], y[:30]))
        held_out = residual(fit, moments(x[30:], y[30:]))
        assert held_out == pytest.approx(error(fit, x[30:], y[30:]))
        assert held_out > residual(fit, moments(x[:30], y[:30]))

    def test_r_squared_is_one_minus_the_share_that_is_left(self):
        x, y = draw()
        fit = reduced_rank(moments(x[:30], y[:30])).rank(2)
        left = error(fit, x[30:], y[30:]) / y[30:].var(axis=0).mean()
        value = r_squared(fit, moments(x[30:], y[30:]))
        assert value == pytest.approx(1 - left)

    def test_a_constant_target_has_no_r_squared(self):
        x, y = draw()
        seen = moments(x, 0 * y)
        assert jnp.isnan(r_squared(least_squares(seen), seen))

    @pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 1000.1])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_nor_has_one_that_the_fit_misses(self, constant, dtype):
        x = draw()[0].astype(dtype)
        y = np.full((60, 6), constant, dtype)
        fit = stitching.Fit(jnp.ones((6, 6), dtype), jnp.ones(6, dtype))
        seen = moments(x, y)
        assert jnp.isnan(r_squared(fit, seen))
        parts = stitching.merge(moments(x[:7], y[:7]), moments(x[7:], y[7:]))
        assert jnp.isnan(r_squared(fit, parts))
        # One channel that varies is enough.
        y[:, 0] = x[:, 0]
        assert jnp.isfinite(r_squared(fit, moments(x, y)))


class TestLeastSquares:
    pytestmark = pytest.mark.usefixtures("x64")

    @pytest.mark.parametrize(("p", "q"), [(6, 6), (6, 4), (4, 6)])
    def test_it_is_the_least_squares_solution_of_the_samples(self, p, q):
        x, y = draw(p=p, q=q)
        fit = least_squares(moments(x, y))
        extended = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        expected = np.linalg.lstsq(extended, y, rcond=None)[0]
        np.testing.assert_allclose(fit.weight, expected[:-1], atol=ROUNDING)
        np.testing.assert_allclose(fit.bias, expected[-1], atol=ROUNDING)

    @pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
    def test_the_ridge_is_that_of_scikit_learn(self, penalty):
        x, y = draw()
        fit = least_squares(moments(x, y), ridge=penalty)
        expected = Ridge(alpha=penalty * len(x)).fit(x, y)
        np.testing.assert_allclose(fit.weight, expected.coef_.T, atol=ROUNDING)
        np.testing.assert_allclose(fit.bias, expected.intercept_, atol=ROUNDING)

    def test_of_collinear_channels_it_is_the_pseudo_inverse_in_standard_units(self):
        x, y = draw()
        x = np.concatenate([x, x[:, :2] * 7, x[:, :1] - x[:, 1:2]], axis=1)
        deviations = x.std(axis=0)
        scaled = (x - x.mean(axis=0)) / deviations
        expected = np.linalg.pinv(scaled, rcond=1e-6) @ (y - y.mean(axis=0))
        fit = least_squares(moments(x, y))
        np.testing.assert_allclose(
            fit.weight, expected / deviations[:, None], atol=1e-8
        )

    @pytest.mark.parametrize("weakest", [1.0, 1e-3, 1e-6, 1e-9, 0.0])
    def test_every_axis_counts_down_to_the_resolution(self, weakest):
        """Whether by Cholesky or, where an axis is weak, by eigenvectors."""
        rng = np.random.default_rng(0)
        axes = np.linalg.qr(rng.normal(size=(40, 4)))[0]
        x = (
            axes
            * np.sqrt([1, 1, 1, weakest])
            @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
        )
        y = rng.normal(size=(40, 3))
        deviations = x.std(axis=0)
        scaled = (x - x.mean(axis=0)) / deviations
        expected = np.linalg.pinv(scaled, rcond=1e-7) @ (y - y.mean(axis=0))
        weight = least_squares(moments(x, y)).weight * deviations[:, None]
        np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-6)

    def test_fewer_samples_than_channels_are_fitted_exactly(self):
        x, y = draw(n=4)
        fit = least_squares(moments(x, y))
        np.testing.assert_allclose(fit(x), y, atol=1e-7)

    def test_the_units_of_the_channels_change_no_prediction(self):
        x, y = draw()
        x = np.concatenate([x, x[:, :1] + x[:, 1:2]], axis=1)
        units = 10.0 ** np.arange(-3, 4)
        one = least_squares(moments(x, y))(x)
        other = least_squares(moments(x * units, y))(x * units)
        np.testing.assert_allclose(one, other, atol=1e-7)

    def test_constant_channels_get_no_weight(self):
        x, y = draw()
        x[:, 2] = 0.1
        fit = least_squares(moments(x, y))
        assert not fit.weight[2].any()
        assert error(fit, x, y) < y.var(axis=0).mean()


class TestOrthogonal:
    pytestmark = pytest.mark.usefixtures("x64")

    def test_it_is_the_rotation_that_scipy_finds(self):
        x, y = draw()
        fit = orthogonal(moments(x, y))
        expected, _ = orthogonal_procrustes(x - x.mean(axis=0), y - y.mean(axis=0))
        np.testing.assert_allclose(fit.weight, expected, atol=ROUNDING)

    def test_a_rotated_scaled_and_moved_activation_is_mapped_exactly(self):
        x, _ = draw()
        rotation = ortho_group.rvs(6, random_state=0)
        fit = orthogonal(moments(x, 3 * x @ rotation + 1), scale=True)
        np.testing.assert_allclose(fit.weight, 3 * rotation, atol=ROUNDING)
        np.testing.assert_allclose(fit.bias, 1, atol=ROUNDING)

    @pytest.mark.parametrize(("p", "q"), [(6, 6), (6, 4), (4, 6)])
    def test_rows_or_columns_are_orthonormal(self, p, q):
        weight = orthogonal(moments(*draw(p=p, q=q))).weight
        gram = weight.T @ weight if p >= q else weight @ weight.T
        np.testing.assert_allclose(gram, np.eye(min(p, q)), atol=1e-13)

    def test_into_more_channels_no_random_semi_orthogonal_map_is_better(self):
        x, y = draw(p=4, q=6)
        seen = moments(x, y)
        best = residual(orthogonal(seen), seen)
        rivals = ortho_group.rvs(6, size=200, random_state=0)[:, :4]
        assert best <= min(with_error(seen, each) for each in rivals)

    @pytest.mark.parametrize(("p", "q"), [(6, 6), (6, 4), (4, 6)])
    def test_the_scale_is_the_best_one(self, p, q):
        seen = moments(*draw(p=p, q=q))
        weight = orthogonal(seen, scale=True).weight
        best = with_error(seen, weight)
        assert best <= min(with_error(seen, weight * s) for s in (0.99, 1.01))
        assert best <= residual(orthogonal(seen), seen)


class TestReducedRank:
    pytestmark = pytest.mark.usefixtures("x64")

    @pytest.mark.parametrize(("p", "q"), [(6, 6), (6, 4), (4, 6)])
    def test_every_rank_has_its_rank_and_its_residual(self, p, q):
        seen = moments(*draw(p=p, q=q))
        ranks = reduced_rank(seen)
        for r in range(min(p, q) + 1):
            fit = ranks.rank(r)
            assert jnp.linalg.matrix_rank(fit.weight) == r
            expected = residual(fit, seen)
            assert ranks.residuals[r] == pytest.approx(float(expected), abs=1e-12)

    def test_the_full_rank_is_least_squares(self):
        seen = moments(*draw())
        fit, full = least_squares(seen), reduced_rank(seen).rank(6)
        np.testing.assert_allclose(fit.weight, full.weight, atol=ROUNDING)
        np.testing.assert_allclose(fit.bias, full.bias, atol=ROUNDING)

    def test_it_is_the_least_squares_fit_projected_on_its_principal_axes(self):
        x, y = draw()
        fit = reduced_rank(moments(x, y)).rank(2)
        fitted = np.asarray(least_squares(moments(x, y))(x))
        _, _, axes = np.linalg.svd(fitted - fitted.mean(axis=0))
        projected = (fitted - y.mean(axis=0)) @ axes[:2].T @ axes[:2] + y.mean(axis=0)
        np.testing.assert_allclose(fit(x), projected, atol=ROUNDING)

    def test_no_neighbour_of_the_same_rank_is_better_than_with_ridge(self):
        ridge = 0.3
        seen = moments(*draw())
        weight = reduced_rank(seen, ridge=ridge).rank(2).weight
        u, s, v = np.linalg.svd(weight)
        left, right = u[:, :2] * s[:2], v[:2]

        def objective(left, right):
            weight = left @ right
            return 6 * with_error(seen, weight) + ridge * (weight**2).sum()

        rng = np.random.default_rng(0)
        best = objective(left, right)
        for _ in range(20):
            step, turn = 0.01 * rng.normal(size=(2, 6, 2))
            assert best < objective(left + step, right + turn.T)

    def test_with_ridge_the_residuals_are_those_of_the_fits(self):
        seen = moments(*draw())
        ranks = reduced_rank(seen, ridge=0.5)
        expected = [float(residual(ranks.rank(r), seen)) for r in range(7)]
        np.testing.assert_allclose(ranks.residuals, expected, atol=1e-12)

    def test_truncating_the_weight_is_worse(self):
        seen = moments(*draw())
        u, s, v = jnp.linalg.svd(least_squares(seen).weight)
        truncated = (u[:, :2] * s[:2]) @ v[:2]
        assert with_error(seen, truncated) > reduced_rank(seen).residuals[2]


class TestSparse:
    pytestmark = pytest.mark.usefixtures("x64")
    shares = (0.9, 0.3, 0.05, 0.001)

    @pytest.mark.parametrize("share", shares)
    def test_it_is_the_lasso_of_scikit_learn(self, share):
        x, y = draw()
        penalty = share * float(stitching.largest_penalty(moments(x, y)))
        fit = sparse(moments(x, y), penalty, tolerance=1e-11)
        expected = Lasso(alpha=penalty, tol=1e-14, max_iter=100_000).fit(x, y)
        np.testing.assert_allclose(fit.weight, expected.coef_.T, atol=1e-7)
        np.testing.assert_allclose(fit.bias, expected.intercept_, atol=1e-7)
        np.testing.assert_array_equal(fit.weight == 0, expected.coef_.T == 0)

    @pytest.mark.parametrize("share", shares)
    def test_the_conditions_of_optimality_hold(self, share):
        x, y = draw(p=6, q=4)
        penalty = share * float(stitching.largest_penalty(moments(x, y)))
        fit = sparse(moments(x, y), penalty, tolerance=1e-10)
        errors = y - np.asarray(fit(x))
        pull = (x - x.mean(axis=0)).T @ errors / len(x)
        active = np.asarray(fit.weight) != 0
        signs = np.sign(np.asarray(fit.weight))
        np.testing.assert_allclose(pull[active], penalty * signs[active], atol=1e-8)
        assert (np.abs(pull[~active]) <= penalty + 1e-8).all()
        assert kkt_violation(fit, moments(x, y), penalty) <= 1e-10

    def test_one_that_is_not_optimal_violates_them(self):
        seen = moments(*draw())
        fit = sparse(seen, 0.1)
        moved = fit._replace(weight=fit.weight + 0.1 * (fit.weight != 0))
        assert kkt_violation(moved, seen, 0.1) > 0.01
        none = fit._replace(weight=0 * fit.weight)
        assert kkt_violation(none, seen, 0.1) > 0.01

    def test_it_ends_after_the_sweeps_that_are_allowed(self):
        seen = moments(*draw())
        short, long = (sparse(seen, 1e-3, sweeps=s) for s in (1, 1000))
        violations = [kkt_violation(f, seen, 1e-3) for f in (short, long)]
        assert violations[0] > 1e-3 > 1e-5 > violations[1]

    def test_from_the_largest_penalty_on_all_is_zero(self):
        seen = moments(*draw())
        top = stitching.largest_penalty(seen)
        assert not sparse(seen, top).weight.any()
        assert sparse(seen, 0.99 * top).weight.any()

    def test_a_path_is_its_fits(self):
        seen = moments(*draw())
        penalties = stitching.largest_penalty(seen) * jnp.array([1.0, 0.3, 0.01])
        path = stitching.sparse_path(seen, penalties, tolerance=1e-11)
        for i, penalty in enumerate(penalties):
            fit = sparse(seen, penalty, tolerance=1e-11)
            np.testing.assert_allclose(path.weight[i], fit.weight, atol=1e-8)
            np.testing.assert_allclose(path.bias[i], fit.bias, atol=1e-8)

    def test_numbers_may_be_a_list(self):
        x, y = draw(n=8)
        seen, weights = moments(x, y), [1, 0, 2, 1, 1, 0, 1, 3]
        wanted = stitching.sparse_path(seen, jnp.array([0.5, 0.125]))
        for numbers in ([0.5, 0.125], (0.5, np.float32(0.125))):
            path = stitching.sparse_path(seen, numbers)
            chex.assert_trees_all_equal(path, wanted)
        given = moments(x.tolist(), y.tolist(), weights=weights)
        wanted = moments(x, y, weights=np.array(weights))
        chex.assert_trees_all_close(given, wanted)

    def test_without_penalty_it_is_least_squares(self):
        seen = moments(*draw())
        fit = sparse(seen, 0.0, tolerance=1e-11, sweeps=100_000)
        expected = least_squares(seen)
        np.testing.assert_allclose(fit.weight, expected.weight, atol=1e-7)


class TestMatching:
    pytestmark = pytest.mark.usefixtures("x64")

    @pytest.mark.parametrize(("p", "q"), [(5, 5), (5, 3)])
    def test_no_other_permutation_has_a_lower_error(self, p, q):
        seen = moments(*draw(p=p, q=q))
        best = residual(stitching.permutation(seen), seen)
        rivals = itertools.permutations(range(p), q)
        errors = [with_error(seen, np.eye(p)[:, list(each)]) for each in rivals]
        assert best == pytest.approx(min(errors))

    def test_with_more_targets_than_sources_some_get_only_their_mean(self):
        x, y = draw(p=3, q=5)
        fit = stitching.permutation(moments(x, y))
        assert fit.weight.sum(axis=1).tolist() == [1, 1, 1]
        alone = ~np.asarray(fit.weight).any(axis=0)
        assert alone.sum() == 2
        np.testing.assert_allclose(fit.bias[alone], y.mean(axis=0)[alone])

    @pytest.mark.parametrize("by", ["error", "correlation"])
    @pytest.mark.parametrize("fitted", [stitching.permutation, semi_matching])
    def test_a_hidden_permutation_is_found(self, fitted, by):
        x, _ = draw()
        index = np.random.default_rng(1).permutation(6)
        fit = fitted(moments(x, x[:, index] + 3), by=by)
        np.testing.assert_allclose(fit(x), x[:, index] + 3, atol=ROUNDING)

    def test_by_correlation_units_do_not_matter(self):
        x, y = draw()
        units = 10.0 ** np.arange(-3, 3)
        for fitted in (stitching.permutation, semi_matching):
            one = fitted(moments(x, y), by="correlation").weight
            other = fitted(moments(x * units, y), by="correlation").weight
            np.testing.assert_array_equal(one, other)
        by_error = semi_matching(moments(x * units, y)).weight
        assert (by_error != one).any()

    @pytest.mark.parametrize(("p", "q"), [(5, 5), (5, 3), (3, 5)])
    def test_semi_matching_takes_the_best_source_of_each_target(self, p, q):
        x, y = draw(p=p, q=q)
        fit = semi_matching(moments(x, y))
        assert fit.weight.sum(axis=0).tolist() == [1] * q
        differences = (y - y.mean(axis=0))[:, None] - (x - x.mean(axis=0))[..., None]
        errors = (differences**2).mean(axis=0)
        np.testing.assert_array_equal(fit.weight.argmax(axis=0), errors.argmin(axis=0))


@pytest.mark.usefixtures("x64")
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_residuals_are_ordered_as_theory_says(seed):
    seen = moments(*draw(seed))
    ranks = reduced_rank(seen)
    fits = {
        "least squares": least_squares(seen),
        "scaled": orthogonal(seen, scale=True),
        "orthogonal": orthogonal(seen),
        "permutation": stitching.permutation(seen),
        "semi": semi_matching(seen),
        "sparse": sparse(seen, 0.05),
        "sparser": sparse(seen, 0.5),
    }
    errors = {k: float(residual(f, seen)) + 1e-12 for k, f in fits.items()}
    assert errors["least squares"] == pytest.approx(float(ranks.residuals[-1]))
    assert (jnp.diff(ranks.residuals) <= 1e-12).all()
    for chain in (
        ["least squares", "scaled", "orthogonal", "permutation"],
        ["least squares", "semi", "permutation"],
        ["least squares", "sparse", "sparser"],
    ):
        for better, worse in itertools.pairwise(chain):
            assert errors[better] <= errors[worse] + 1e-9


FITS = {
    "least squares": least_squares,
    "ridge": lambda seen: least_squares(seen, ridge=0.1),
    "rank 3": lambda seen: reduced_rank(seen).rank(3),
    "orthogonal": lambda seen: orthogonal(seen, scale=True),
    "sparse": lambda seen: sparse(seen, 0.1),
    "semi-matching": semi_matching,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FITS)
def test_fits_run_under_vmap_and_jit(name):
    seen = [moments(*draw(seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
    many = jax.jit(jax.vmap(FITS[name]))(stacked)
    for i, each in enumerate(seen):
        np.testing.assert_allclose(many.weight[i], FITS[name](each).weight, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_ranks_may_be_vmapped():
    ranks = reduced_rank(moments(*draw()))
    many = jax.vmap(ranks.rank)(jnp.arange(7))
    np.testing.assert_allclose(many.weight[3], ranks.rank(3).weight, atol=1e-14)


@pytest.mark.parametrize("name", [*FITS, "permutation"])
def test_float32_is_safe_at_means_far_from_zero(name):
    """The fit in float32 explains on float64 samples what the one in float64 does."""
    x, y = draw(n=500)
    x, y = x + 1000 * x.std(axis=0), y + 1000 * y.std(axis=0)
    fitted = (FITS | {"permutation": stitching.permutation})[name]
    fit = fitted(moments(x.astype(np.float32), y.astype(np.float32)))
    assert fit.weight.dtype == jnp.float32
    with jax.enable_x64(True):
        seen = moments(x, y)
        expected = r_squared(fitted(seen), seen)
        found = r_squared(
            stitching.Fit(*(jnp.asarray(np.asarray(each, float)) for each in fit)), seen
        )
        assert found == pytest.approx(float(expected), abs=1e-5)


def test_float32_noise_of_constant_channels_gets_no_weight():
    x, y = (each.astype(np.float32) for each in draw(n=500))
    rng = np.random.default_rng(0)
    x[:, 0] = np.float32(1000) + rng.choice([0, 6.2e-5], 500).astype(np.float32)
    assert np.ptp(x[:, 0]) > 0
    assert not least_squares(moments(x, y)).weight[0].any()


def test_float32_finds_the_rank_of_many_collinear_channels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20)) @ rng.normal(size=(20, 60))
    x = (x * np.exp(2 * rng.normal(size=60))).astype(np.float32)
    y = (x / x.std(axis=0)) @ rng.normal(size=(60, 5)).astype(np.float32)
    seen = moments(x, y)
    fit = least_squares(seen)
    assert r_squared(fit, seen) > 1 - 1e-5
    standard = np.asarray(fit.weight) * x.std(axis=0)[:, None]
    assert np.linalg.matrix_rank(standard, tol=1e-3) <= 20
    assert np.abs(standard).max() < 10


def test_merged_moments_give_the_fit_of_all_samples():
    x, y = (each.astype(np.float32) for each in draw())
    halves = stitching.merge(moments(x[:30], y[:30]), moments(x[30:], y[30:]))
    one, other = (least_squares(m).weight for m in (halves, moments(x, y)))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_fits_apply_to_maps_and_tokens():
    x, y = draw()
    fit = least_squares(moments(x, y))
    images = np.ones((2, 4, 4, 6), np.float32)
    assert fit(images).shape == (2, 4, 4, 6)
    np.testing.assert_allclose(fit(images)[1, 2, 3], fit(images[1, 2, 3]), rtol=1e-5)


SCALES = {"loud x": (1e3, 1.0), "faint x": (1e-6, 1.0), "loud y": (1.0, 1e3)}


@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("name", [*FITS, "permutation", "full rank"])
def test_float32_is_safe_where_one_channel_has_another_scale(name, case):
    """Every channel is predicted as in float64, in units of its deviation."""
    fits: dict[str, Any] = {
        **FITS,
        "permutation": stitching.permutation,
        "full rank": lambda seen: reduced_rank(seen).rank(6),
    }
    x, y = draw(n=500)
    x[:, 1] *= SCALES[case][0]
    y[:, 2] *= SCALES[case][1]
    x, y = x.astype(np.float32), y.astype(np.float32)
    fit = fits[name](moments(x, y))
    with jax.enable_x64(True):
        wanted = fits[name](moments(x.astype(float), y.astype(float)))
        expected = np.asarray(wanted(x.astype(float)))
        got = stitching.Fit(*(jnp.asarray(np.asarray(each, float)) for each in fit))(x)
    deviations = np.maximum(y.std(axis=0), expected.std(axis=0))
    assert (np.abs(got - expected) / deviations).max() < 5e-3


@pytest.mark.parametrize("by", ["error", "correlation"])
def test_assignments_are_those_of_float64_at_any_scale(by):
    x, y = draw(n=500)
    x = (x * 10.0 ** np.arange(-3, 3)).astype(np.float32)
    y = (y * 10.0 ** np.arange(3, -3, -1)).astype(np.float32)
    for fitted in (stitching.permutation, semi_matching):
        found = fitted(moments(x, y), by=by).weight
        with jax.enable_x64(True):
            wanted = fitted(moments(x.astype(float), y.astype(float)), by=by).weight
        np.testing.assert_array_equal(found, wanted)
