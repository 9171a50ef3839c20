"""Moments: one pass, in any pieces and places, right where the mean is large."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import stitching
from stitching import Moments

merge = jax.jit(stitching.merge)
moments = jax.jit(stitching.moments)


def draw(n, p=5, q=3, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + mean
    y = 0.5 * x[:, :q] + rng.normal(size=(n, q))
    return x, y


def expected(x, y):
    """By NumPy in float64, from the definition."""
    x, y = (np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in (x, y))
    both, p = np.hstack([x, y]), x.shape[1]
    both = both - both.mean(axis=0)
    together = both.T @ both / len(both)
    return {
        "count": len(x),
        "mean_x": x.mean(axis=0),
        "mean_y": y.mean(axis=0),
        "xx": together[:p, :p],
        "xy": together[:p, p:],
        "yy": together[p:, p:],
    }


def assert_equal(got, wanted, tolerance):
    wanted = wanted._asdict() if isinstance(wanted, Moments) else wanted
    for name, a in got._asdict().items():
        np.testing.assert_allclose(a, wanted[name], tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("shape", [(24,), (6, 4), (2, 3, 2, 2)])
def test_moments_are_those_of_numpy_for_any_number_of_sample_axes(x64, shape):
    x, y = draw(24, mean=3.0)
    got = stitching.moments(x.reshape(*shape, 5), y.reshape(*shape, 3))
    assert_equal(got, expected(x, y), 1e-13)


@pytest.mark.parametrize("batch", [20_000, 100, 7])
def test_float32_is_safe_at_a_mean_of_a_thousand_deviations(batch):
    x, y = (a.astype(np.float32) for a in draw(20_000, mean=1000.0))
    wanted = expected(x, y)
    seen = moments(x[:batch], y[:batch])
    for start in range(batch, len(x), batch):
        seen = merge(seen, moments(x[start : start + batch], y[start : start + batch]))
    # In float32 a mean of 1000 is itself no finer than 6e-5.
    for name in ("mean_x", "mean_y"):
        np.testing.assert_allclose(getattr(seen, name), wanted[name], 2e-6)
    for name in ("xx", "xy", "yy"):
        difference = getattr(seen, name) - wanted[name]
        assert np.abs(difference).max() < 5e-5
    naive = (x.T @ x) / len(x) - np.outer(x.mean(axis=0), x.mean(axis=0))
    assert np.abs(naive - wanted["xx"]).max() > 0.03


def test_a_mean_that_float32_cannot_hold_does_not_reach_the_second_moments():
    x, y = (a.astype(np.float32) for a in draw(1000, mean=1e6))
    wanted = expected(x, y)["xx"]
    assert np.abs(moments(x, y).xx - wanted).max() < 3e-6
    rounded = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    assert np.abs(rounded.T @ rounded / len(x) - wanted).max() > 1e-4


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2**16))
def test_any_split_in_any_order_gives_the_moments_of_all(sizes, seed):
    with jax.enable_x64(True):
        x, y = draw(sum(sizes), mean=2.0, seed=seed)
        cuts = np.cumsum(sizes)[:-1]
        pairs = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
        parts = [moments(a, b) for a, b in pairs]
        wanted = expected(x, y)
        assert_equal(functools.reduce(merge, parts), wanted, 1e-12)
        assert_equal(functools.reduce(merge, reversed(parts)), wanted, 1e-12)


def test_moments_of_zeros_are_neutral_so_a_scan_may_start_from_them(x64):
    x, y = draw(40)
    zeros = jax.tree.map(jnp.zeros_like, stitching.moments(x[:1], y[:1]))
    batches = jnp.asarray(x).reshape(8, 5, -1), jnp.asarray(y).reshape(8, 5, -1)

    def step(seen, batch):
        return stitching.merge(seen, stitching.moments(*batch)), None

    seen, _ = jax.lax.scan(step, zeros, batches)
    assert_equal(seen, expected(x, y), 1e-13)
    assert_equal(stitching.merge(zeros, zeros), zeros, 0)
    assert_equal(stitching.merge(seen, zeros), seen, 0)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_samples_sharded_over_devices_give_the_same_moments(x64, kind):
    x, y = draw(64, mean=5.0)
    mesh = jax.make_mesh((8,), ("samples",), axis_types=(kind,))
    across = NamedSharding(mesh, PartitionSpec("samples"))
    got = moments(jax.device_put(x, across), jax.device_put(y, across))
    assert_equal(got, expected(x, y), 1e-12)


def test_devices_may_merge_what_each_has_seen(x64):
    x, y = draw(64, mean=5.0)
    mesh = jax.make_mesh((8,), ("samples",), axis_types=(AxisType.Auto,))
    split = PartitionSpec("samples")

    def on_device(x, y):
        seen = jax.lax.all_gather(stitching.moments(x, y), "samples")
        parts = [jax.tree.map(lambda leaf, i=i: leaf[i], seen) for i in range(8)]
        return jax.tree.map(lambda a: a[None], functools.reduce(stitching.merge, parts))

    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=(split, split), out_specs=split
    )
    everywhere = jax.jit(mapped)(jnp.asarray(x), jnp.asarray(y))
    for device in range(8):
        here = jax.tree.map(lambda leaf, i=device: leaf[i], everywhere)
        assert_equal(here, expected(x, y), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int8, jnp.float32])
def test_short_numbers_are_accumulated_in_float32(dtype):
    x, y = (jnp.asarray(4 * a, dtype) for a in draw(5000))
    got = moments(x, y)
    assert {leaf.dtype for leaf in got} == {jnp.dtype(jnp.float32)}
    assert_equal(got, expected(x, y), 1e-4)


def test_a_channel_that_does_not_vary_has_exactly_zero_moments():
    x, y = draw(1001)
    x[:, 2] = 0.1
    x, y = x.astype(np.float32), y.astype(np.float32)
    seen = merge(moments(x[:333], y[:333]), moments(x[333:], y[333:]))
    assert not seen.xx[2].any()
    assert not seen.xy[2].any()
    assert seen.mean_x[2] == np.float32(0.1)


def test_moments_of_one_activation_have_no_second_one():
    x, _ = draw(10)
    alone = stitching.moments(x)
    assert alone.xy.shape == (5, 0)
    np.testing.assert_array_equal(alone.xx, stitching.moments(x, x).xx)
    assert_equal(
        stitching.merge(stitching.moments(x[:4]), stitching.moments(x[4:])), alone, 1e-6
    )


@pytest.mark.parametrize("other", [1000, 10])
def test_memory_does_not_depend_on_the_number_of_samples(other):
    shapes = [leaf.shape for leaf in stitching.moments(*draw(other))]
    assert shapes == [(), (5,), (3,), (5, 5), (5, 3), (3, 3)]


def test_nan_is_not_hidden():
    x, y = draw(10)
    x[3, 1] = np.nan
    assert jnp.isnan(moments(x, y).xx[1, 1])
    assert not jnp.isnan(moments(x, y).yy).any()


MASK = np.random.default_rng(5).integers(0, 2, 24).astype(bool)


@pytest.mark.parametrize("kind", [bool, np.float32, int])
def test_a_mask_leaves_samples_out_whatever_they_hold(x64, kind):
    x, y = draw(24, mean=3.0)
    wanted = expected(x[MASK], y[MASK])
    x[~MASK], y[~MASK] = np.nan, np.inf
    got = stitching.moments(x, y, weights=MASK.astype(kind))
    assert_equal(got, wanted, 1e-13)


def test_weights_count_samples_several_times(x64):
    x, y = draw(24, mean=3.0)
    times = np.random.default_rng(5).integers(0, 4, 24)
    wanted = expected(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0))
    assert_equal(stitching.moments(x, y, weights=times), wanted, 1e-13)
    scaled = stitching.moments(x, y, weights=times / 7)
    assert_equal(scaled, wanted | {"count": times.sum() / 7}, 1e-13)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_weights_may_be_those_of_the_first_axes(x64, axes):
    x, y = draw(24)
    shape = (2, 3, 4)
    mask = np.resize([1, 0, 1, 1, 0], shape[:axes]).astype(bool)
    everywhere = np.broadcast_to(mask.reshape(mask.shape + (1,) * (3 - axes)), shape)
    wanted = expected(x[everywhere.ravel()], y[everywhere.ravel()])
    got = moments(x.reshape(*shape, 5), y.reshape(*shape, 3), weights=mask)
    assert_equal(got, wanted, 1e-13)


def test_batches_with_weights_merge_and_empty_ones_are_neutral(x64):
    x, y = draw(24, mean=3.0)
    weights = np.where(np.arange(24) < 8, 0.0, np.arange(24))
    parts = [
        moments(x[s : s + 8], y[s : s + 8], weights=weights[s : s + 8])
        for s in (0, 8, 16)
    ]
    assert not any(np.asarray(leaf).any() for leaf in parts[0])
    merged = functools.reduce(merge, parts)
    assert_equal(merged, stitching.moments(x, y, weights=weights), 1e-13)


@pytest.mark.parametrize("scale", [1e-15, 1e18])
def test_squares_near_the_limits_of_float32_are_kept(scale):
    x, y = (a.astype(np.float32) for a in draw(5000))
    plain = moments(x, y)
    got = moments(x * np.float32(scale), y)
    np.testing.assert_allclose(got.xx / np.float32(scale) ** 2, plain.xx, 1e-3, 1e-3)
    assert np.isfinite(got.xx).all()
