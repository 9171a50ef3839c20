"""Many stitches trained at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stitching
from stitching import each, layers, targets
from stitching.training import _group, _program, _strategy
from stitching.training._data import Prepared
from stitching.training._program import Program
from stitching.training._task import Given, Task
from tests.stitching.test_train import ADAM, KEY, close, pair, train

OPTIONS = {"steps": 30, "batch_size": 16}


@pytest.fixture(scope="module")
def mlp():
    return pair("mlp")


@pytest.fixture(scope="module")
def three(mlp):
    """Three stitches that differ in everything that may, and each by itself."""
    stitched, a, b, x, target = mlp
    scaled = [jax.tree.map(lambda leaf, s=s: s * leaf, (a, b)) for s in (0.9, 1.0, 1.1)]
    keys = list(jax.random.split(KEY, 3))
    initials = [stitched.init(key, a, x[:1]) for key in keys]
    labels = [target, *(targets.hard((target.labels + i) % 3) for i in (1, 2))]
    rows = list(zip(*zip(*scaled, strict=True), labels, keys, initials, strict=True))
    alone = [
        train((stitched, a, b, x, y), key=k, initial=i, record=(3,), strategy="scan")
        for a, b, y, k, i in rows
    ]
    return rows, alone


@pytest.mark.parametrize(
    ("strategy", "devices"), [("vmap", None), ("scan", None), ("loop", None), (None, 3)]
)
def test_many_are_one_by_one(mlp, three, strategy, devices):
    rows, alone = three
    a, b, target, key, initial = (each(column) for column in zip(*rows, strict=True))
    together = stitching.train_many(
        mlp[0],
        a,
        b,
        mlp[3],
        target,
        ADAM,
        key=key,
        initial=initial,
        record=(3,),
        strategy=strategy,
        devices=devices and jax.local_devices()[:devices],
        **OPTIONS,
    )
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        close(one, other, rtol=1e-4)


def lasso(penalty):
    return optax.chain(optax.sgd(0.2), layers.proximal_l1(penalty, 0.2))


@pytest.mark.parametrize("strategy", ["vmap", "scan"])
def test_penalties_are_hyperparameters(mlp, strategy):
    penalties = jnp.array([0.0, 0.02, 0.2])
    found = stitching.train_many(
        *mlp,
        lasso,
        hyperparameters=each(penalties),
        key=KEY,
        strategy=strategy,
        **OPTIONS,
    )
    zeros = [int((one.fit.weight == 0).sum()) for one in found]
    assert zeros[0] == 0 < zeros[1] < zeros[2]
    close(found[1][:3], train(mlp, lasso(0.02), strategy="scan")[:3])


def test_masks_differ_though_they_do_not_train(mlp):
    fits = [stitching.Fit(jnp.eye(9, 7, -i), jnp.zeros(7)) for i in range(3)]
    layer = layers.MaskedAffine(7)
    stitched = stitching.stitch(mlp[0].cut_1, layer, mlp[0].cut_2)
    found = stitching.train_many(
        stitched,
        *mlp[1:],
        ADAM,
        initial=each([layers.from_fit(layer, fit) for fit in fits]),
        key=KEY,
        strategy="vmap",
        **OPTIONS,
    )
    for one, fit in zip(found, fits, strict=True):
        np.testing.assert_array_equal(one.fit.weight != 0, fit.weight != 0)


def test_samples_may_differ_and_are_computed_as_they_are_needed(mlp):
    """Other samples, and pairs of which some share network 1."""
    stitched, a, b, x, target = mlp
    more = jax.tree.map(lambda leaf: 1.2 * leaf, a)
    pairs = [(a, x), (more, x), (more, x + 1), (a, x)]
    found = stitching.train_many(
        stitched,
        each([a for a, _ in pairs]),
        b,
        each([x for _, x in pairs]),
        target,
        ADAM,
        key=KEY,
        strategy="scan",
        **OPTIONS,
    )
    close(found[0], found[3])
    for one, (a, x) in zip(found, pairs, strict=True):
        close(one[:3], train((stitched, a, b, x, target), strategy="scan")[:3])


@pytest.mark.parametrize(
    ("name", "tried"), [("conv", ("loop",)), ("mlp", ("scan", "vmap", "loop"))]
)
def test_convolutions_are_not_looped_nor_vmapped_on_a_cpu(name, tried):
    stitched, a, b, x, target = pair(name)
    initial = stitched.init(KEY, a, x[:1])
    given = Given(a, b, x, target, KEY, initial, None, None)
    task = Task(Program(stitched, ADAM), 3, 8, (), None, None, None)
    found = _strategy._candidates(task, [given] * 2, Prepared(task, [given])(given))
    assert found == tried


def test_the_choice_by_timing_changes_nothing(mlp, monkeypatch):
    monkeypatch.setattr(_strategy, "_COMPILING_SECONDS", 0.0)
    timed, once = [], _strategy._timed
    monkeypatch.setattr(
        _strategy, "_timed", lambda *given: timed.append(given[1]) or fake(*given)
    )
    times = {"scan": 2.0, "vmap": 1.0, "loop": 3.0}

    def fake(task, name, *given):
        once(task, name, *given)
        return 0.0, times[name]

    many = functools.partial(
        stitching.train_many, *mlp, ADAM, key=each([KEY, KEY]), **OPTIONS
    )
    told = []
    found = many(progress=lambda *each: told.append(each))
    assert timed == ["scan", "vmap", "loop"]
    assert told[-1] == (60, 60)
    for one in found:
        close(one[:3], train(mlp, strategy="scan")[:3])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "expected something that differs, .* got nothing"),
        ({"key": each([])}, "at least 1 value"),
        ({"key": each([KEY] * 2), "variables_2": each([0] * 3)}, "as many values"),
        ({"x": each([jnp.ones((4, 5)), jnp.ones((6, 5))])}, r"same number .*\[4, 6\]"),
    ],
)
def test_what_does_not_go_together_is_refused(mlp, changes, says):
    names = ("stitched", "variables_1", "variables_2", "x", "target")
    given = dict(zip(names, mlp, strict=True)) | {"key": KEY} | changes
    with pytest.raises(ValueError, match=says):
        stitching.train_many(**given, optimizer=ADAM, **OPTIONS)


def test_stitches_that_share_their_data_are_spread_over_devices(mlp, monkeypatch):
    spread = []

    def watched(program, axes, runs, *given):
        spread.append({len(leaf.sharding.device_set) for leaf in jax.tree.leaves(runs)})
        return _program.vmapped(program, axes, runs, *given)

    monkeypatch.setattr(_group, "vmapped", watched)
    penalties = each(jnp.array([0.0, 0.02, 0.1, 0.2]))
    many = functools.partial(
        stitching.train_many,
        *mlp,
        lasso,
        hyperparameters=penalties,
        key=KEY,
        **OPTIONS,
    )
    found = many(devices=jax.local_devices()[:4])
    assert spread
    assert all(devices == {4} for devices in spread)
    for one, other in zip(found, many(strategy="vmap"), strict=True):
        close(one[:3], other[:3], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"devices": []}, "devices: expected different devices of this process"),
        ({"devices": jax.local_devices()[:1] * 2}, "devices: expected different"),
        ({"devices": jax.local_devices()[:3]}, "that divides the 2 stitches, got 3"),
        (
            {"devices": jax.local_devices()[:2], "strategy": "scan"},
            "strategy: expected 'vmap' or None over several devices, got 'scan'",
        ),
    ],
)
def test_devices_that_stitches_cannot_be_spread_over_are_refused(mlp, options, says):
    with pytest.raises(ValueError, match=says):
        stitching.train_many(*mlp, ADAM, key=each([KEY] * 2), **OPTIONS, **options)


def test_trees_of_other_shapes_are_not_stacked(mlp):
    stitched, a, b, x, target = mlp
    soft = targets.soft(jnp.zeros((48, 3)))
    many = functools.partial(
        stitching.train_many,
        *(stitched, a, b, x, each([target, soft])),
        ADAM,
        key=KEY,
        **OPTIONS,
    )
    with pytest.raises(ValueError, match="'vmap' expects trees of the same"):
        many(strategy="vmap")
    hard_one, soft_one = many()
    close(hard_one[:3], train(mlp, strategy="scan")[:3])
    close(soft_one[:3], train((*mlp[:4], soft), strategy="scan")[:3])
