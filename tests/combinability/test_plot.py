"""Plots of combinations: they show what the library's functions return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import combinability
from combinability import plot

X = jax.random.normal(jax.random.key(0), (20, 3))
MODELS = [
    {"in": jax.random.normal(jax.random.key(seed), (3, 4)), "out": jnp.ones((4, 1))}
    for seed in (1, 2, 3)
]


def apply(variables, x):
    return jnp.tanh(x @ variables["in"]) @ variables["out"]


def metric(variables):
    off = apply(variables, X) - apply(MODELS[0], X)
    return {"loss": jnp.mean(off**2), "error": jnp.mean(off > 0.1)}


@pytest.fixture(scope="module")
def symmetry():
    return combinability.infer_symmetry(apply, MODELS[0], X)


def test_barrier_curves_of_pairs_and_their_mean():
    pairs = [combinability.barrier(metric, MODELS[0], b, points=5) for b in MODELS[1:]]
    axes = plot.barrier(pairs, "loss", label="not matched")
    losses = [pair.losses["loss"] for pair in pairs]
    drawn = [line.get_ydata() for line in axes.lines]
    np.testing.assert_allclose(drawn, [np.mean(losses, axis=0), *losses], rtol=1e-6)
    assert axes.get_legend_handles_labels()[1] == ["not matched"]
    single = plot.barrier(pairs[0], "error").lines
    np.testing.assert_array_equal(single[0].get_ydata(), pairs[0].losses["error"])
    assert len(single) == 1


def test_robustness_curves_are_means_over_combinations(symmetry):
    found = combinability.robustness(
        metric,
        symmetry,
        MODELS[0],
        MODELS[1],
        {"in": jnp.arange(4)},
        key=jax.random.key(0),
        fractions=[0, 0.5],
        trials=2,
        samples=3,
        points=3,
    )
    axes = plot.robustness(found, "loss")
    expected = found.losses["loss"].mean(axis=(1, 2))
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected, rtol=1e-6)
    np.testing.assert_allclose(axes.lines[0].get_xdata(), found.moved.mean(axis=1))
    axes = plot.robustness([found, found], "loss", what="barrier", against="lost")
    expected = found.barrier["loss"].mean(axis=1)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"what: .*'height'"):
        plot.robustness(found, "loss", what="height")


def test_the_matrix_shows_every_pair(symmetry):
    found = combinability.transitivity(
        metric, symmetry, MODELS, key=jax.random.key(0), points=3
    )
    axes = plot.matrix(found.through["loss"][0], ["a", "b", "c"], label="barrier")
    texts = [text.get_text() for text in axes.texts]
    assert texts == [f"{value:.3g}" for value in found.through["loss"][0].ravel()]
    assert axes.collections[0].get_array().shape == (3, 3)


def test_distributions_are_those_of_evaluate():
    values = combinability.evaluate(
        metric,
        *MODELS[:2],
        combinability.uniform(),
        key=jax.random.key(0),
        samples=21,
    )
    axes = plot.hypercube({"uniform": values["loss"]}, [0.0, 0.2], tolerance=0.3)
    low, high = axes.lines[0].get_xdata()
    assert [low, high] == pytest.approx(np.percentile(values["loss"], [5, 95]))
    assert axes.lines[2].get_xdata()[0] == pytest.approx(np.median(values["loss"]))
    assert axes.patches[0].get_width() == pytest.approx(0.4)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.3, 4.0), (1.3, 88.0)])
def test_levels_of_a_plane_are_round_and_cover_the_values(low, high):
    x = np.linspace(0, 1, 7)
    axes = plot.plane(x, x, low + (high - low) * np.outer(x, x), [[0, 1]], ["a"])
    levels = axes.collections[0].levels
    assert levels[0] <= low
    assert levels[-1] >= high
    assert 4 <= len(levels) <= 12
    assert all(float(f"{level:.2g}") == pytest.approx(level) for level in levels)
    ticks = [text.get_text() for text in axes.figure.axes[1].get_yticklabels()]
    assert [float(tick) for tick in ticks] == pytest.approx(levels)


def test_a_plot_is_drawn_on_the_given_axes():
    axes = Figure().add_subplot()
    assert plot.matrix(np.eye(2), ax=axes) is axes
    assert plot.hypercube({"a": [1.0, 2.0]}, ax=axes) is axes
