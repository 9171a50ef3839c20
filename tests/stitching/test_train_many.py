"""Many stitches trained at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stitching
from stitching import each, layers, targets
from stitching.training import _step
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
    labels = [target, *(targets.hard((target.values + i) % 3) for i in (1, 2))]
    rows = list(zip(*zip(*scaled, strict=True), labels, keys, initials, strict=True))
    alone = [
        train((stitched, a, b, x, y), key=k, initial=i, record=(3,))
        for a, b, y, k, i in rows
    ]
    return rows, alone


@pytest.mark.parametrize("how", ["side by side", "from Python", "over devices"])
def test_many_are_one_by_one(mlp, three, how, monkeypatch):
    rows, alone = three
    if how == "from Python":
        monkeypatch.setattr(_step, "loops_in_python", lambda *_: True)
    devices = jax.local_devices()[:3] if how == "over devices" else None
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
        devices=devices,
        **OPTIONS,
    )
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        close(one, other, rtol=1e-4)


def lasso(penalty):
    return optax.chain(optax.sgd(0.2), layers.proximal_l1(penalty, 0.2))


@pytest.mark.parametrize("keep", [True, False], ids=["side by side", "in sequence"])
def test_penalties_are_hyperparameters(mlp, keep):
    penalties = jnp.array([0.0, 0.02, 0.2])
    found = stitching.train_many(
        *mlp,
        lasso,
        hyperparameters=each(penalties),
        key=KEY,
        keep=keep,
        **OPTIONS,
    )
    zeros = [int((one.fit.weight == 0).sum()) for one in found]
    assert zeros[0] == 0 < zeros[1] < zeros[2]
    close(found[1][:3], train(mlp, lasso(0.02))[:3])


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
        keep=False,
        **OPTIONS,
    )
    close(found[0], found[3])
    for one, (a, x) in zip(found, pairs, strict=True):
        close(one[:3], train((stitched, a, b, x, target))[:3])


@pytest.mark.parametrize(
    ("name", "stacked"), [("mlp", {True}), ("conv", {False}), ("norm", {True})]
)
def test_convolutions_are_not_vmapped_on_a_cpu(name, stacked, monkeypatch):
    seen, take = set(), _step.take

    def watched(program, *given):
        seen.add(program.axes is not None)
        return take(program, *given)

    monkeypatch.setattr(_step, "take", watched)
    options = {"key": each([KEY, jax.random.key(8)]), "steps": 2, "batch_size": 8}
    stitching.train_many(*pair(name), ADAM, **options)
    assert seen == stacked


def test_progress_counts_the_steps_of_all(mlp):
    for keep in (True, False):
        seen = []
        stitching.train_many(
            *mlp,
            ADAM,
            key=each([KEY, jax.random.key(8)]),
            keep=keep,
            progress=lambda *call: seen.append(call),  # noqa: B023
            **OPTIONS,
        )
        done = [count for count, _ in seen]
        assert done == sorted(set(done))
        assert seen[-1] == (60, 60)


def test_stitches_that_share_their_data_are_spread_over_devices(mlp, monkeypatch):
    spread, take = [], _step.take

    def watched(program, run, *given):
        spread.append({len(leaf.sharding.device_set) for leaf in jax.tree.leaves(run)})
        return take(program, run, *given)

    monkeypatch.setattr(_step, "take", watched)
    penalties = each(jnp.array([0.0, 0.02, 0.1, 0.2]))
    many = functools.partial(
        stitching.train_many,
        *mlp,
        lasso,
        hyperparameters=penalties,
        key=KEY,
        record=(3, 5),
        **OPTIONS,
    )
    found = many(devices=jax.local_devices()[:4])
    assert len(spread) == 3
    assert all(devices == {4} for devices in spread), spread
    for one, other in zip(found, many(), strict=True):
        close(one[:3], other[:3], rtol=1e-4)


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
    with pytest.raises(ValueError, match="devices: expected None, as the trees of the"):
        many(devices=jax.local_devices()[:2])
    hard_one, soft_one = many()
    close(hard_one[:3], train(mlp)[:3])
    close(soft_one[:3], train((*mlp[:4], soft))[:3])
