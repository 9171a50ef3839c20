"""What training refuses, and functions in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import stitching
from stitching import Cut, layers, targets
from tests.stitching.test_train import KEY, SGD, pair


def given(**changes):
    names = ("stitched", "variables_1", "variables_2", "x", "target")
    usual = {"optimizer": SGD, "key": KEY, "steps": 3, "batch_size": 4}
    return dict(zip(names, pair("mlp"), strict=True)) | usual | changes


def with_layer(layer):
    stitched = pair("mlp")[0]
    return stitching.stitch(stitched.cut_1, layer, stitched.cut_2)


def scalar_back():
    stitched = pair("mlp")[0]
    back = Cut(stitched.cut_2.front, lambda variables, activation: activation.sum())
    return stitching.stitch(stitched.cut_1, stitched.layer, back)


LABELS = np.arange(48) % 3
KERNEL = {"kernel": jnp.ones((9, 7))}


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"stitched": 3}, TypeError, "stitched: expected what stitching.stitch"),
        ({"target": LABELS}, TypeError, "target: expected a stitching.targets.Target"),
        ({"target": targets.hard(LABELS[:47])}, ValueError, "48 samples .* got 47"),
        ({"target": targets.hard(LABELS + 1)}, ValueError, "below 3, .* got 3"),
        (
            {"target": targets.hard(np.ones((48, 2), int))},
            ValueError,
            r"labels of shape \(48,\), one per output .* got \(48, 2\)",
        ),
        (
            {"target": targets.soft(np.ones((48, 4)))},
            ValueError,
            r"soft outputs of shape \(48, 3\), .* got \(48, 4\)",
        ),
        (
            {"target": targets.hard(LABELS) + targets.cka(np.ones((48, 6)))},
            ValueError,
            r"activation of shape \(48, 7\), .* got \(48, 6\)",
        ),
        ({"x": {}}, ValueError, "x: expected arrays of one length"),
        ({"x": np.ones((0, 5))}, ValueError, "x: .* at least 1 sample"),
        ({"x": (np.ones(3), np.ones(4))}, ValueError, r"got shapes \[\(3,\), \(4,\)\]"),
        ({"steps": 0}, ValueError, "steps: expected at least 1, got 0"),
        ({"steps": 2.0}, TypeError, "steps: expected an integer"),
        (
            {"batch_size": 49},
            ValueError,
            "batch_size: expected from 1 to 48, the number of samples, got 49",
        ),
        ({"record": (0, 4)}, ValueError, "record: expected from 0 to 3, .* got 4"),
        ({"optimizer": 0.1}, TypeError, "optimizer: expected an optax"),
        ({"optimizer": optax.sgd}, TypeError, "optimizer: expected an optax"),
        (
            {"stitched": with_layer(layers.Affine(6))},
            ValueError,
            r"layer: expected it to give \[\(7,\)\] per sample, .* got \[\(6,\)\]",
        ),
        (
            {"stitched": with_layer(nn.Sequential([nn.relu]))},
            ValueError,
            "layer: expected parameters to train, got Sequential without",
        ),
        (
            {"stitched": scalar_back()},
            ValueError,
            "labels of shape .*, one per output of shape",
        ),
        (
            {"initial": {"params": KERNEL}},
            ValueError,
            r"initial: .* at \['params'\]\['bias'\] shape \(7,\), got None",
        ),
        (
            {"initial": {"params": KERNEL | {"bias": jnp.ones(6)}}},
            ValueError,
            r"initial: .*shape \(7,\), got \(6,\)",
        ),
        (
            {"activation": jnp.ones((48, 8))},
            ValueError,
            r"activation: expected what cut_1.front gives .*\(48, 9\).*\(48, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, says):
    with pytest.raises(error, match=says):
        stitching.train(**given(**changes))


def test_hyperparameters_come_with_a_function_to_an_optimizer():
    rates = stitching.each([0.1, 0.2])
    with pytest.raises(TypeError, match="with hyperparameters, expected a function"):
        stitching.train_many(**given(hyperparameters=rates))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None, layers.Affine(7), None), "cut_1: expected a stitching.Cut, got None"),
        ((pair("mlp")[0].cut_1, 7, pair("mlp")[0].cut_2), "layer: expected .* got 7"),
    ],
)
def test_only_cuts_and_a_layer_are_stitched(arguments, says):
    with pytest.raises(TypeError, match=says):
        stitching.stitch(*arguments)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_batches_together_are_the_whole(batch_size, convert):
    x = {"a": convert(np.arange(14.0).reshape(7, 2)), "b": convert(np.arange(7))}
    found = stitching.in_batches(_two, jnp.float32(3), x, batch_size=batch_size)
    jax.tree.map(np.testing.assert_array_equal, found, _two(3, x))


def _two(factor, x):
    return factor * x["a"], {"sum": x["a"].sum(axis=1) + x["b"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((_two, 1.0, {"a": np.ones((3, 2)), "b": np.ones(4)}), "x: expected arrays of"),
        ((jnp.sum, np.ones(4)), r"function: expected results with one row per sample"),
    ],
)
def test_batches_of_what_has_no_rows_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        stitching.in_batches(*arguments)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        stitching.in_batches(jnp.sin, np.ones(4), batch_size=0)
