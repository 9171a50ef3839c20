"""Plots of laws: they show what `diagnostics` and `response` return."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import rllc
from rllc import plot

MEMORY = rllc.decays(0.0, 0.9, 0.99)
UNDAMPED, GROWING = (rllc.LinearMemory([[a]], [1.0]) for a in (1.0, 1.01))


def recorded(groups, steps=6):
    """The law at every step of a short run, as a user records it."""
    optimizer = rllc.rllc(0.1, MEMORY, rllc.LearningLaw(rate=0.05, groups=groups))
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    state, laws = optimizer.init(params), []
    for _ in range(steps):
        gradient = jax.grad(lambda p: sum(jnp.sum(x**4) for x in jax.tree.leaves(p)))
        updates, state = optimizer.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        laws.append(rllc.diagnostics(state).law)
    return np.stack(laws), float(rllc.diagnostics(state).gain[0])


def test_shares_are_those_of_the_response_of_each_unit():
    law = np.array([0.5, -0.2, 0.03])
    units = [rllc.response(MEMORY, law * unit, 5000).sum() for unit in np.eye(3)]
    np.testing.assert_allclose(
        plot.gain_shares(MEMORY, law), units / np.sum(units), rtol=1e-9
    )


@pytest.mark.parametrize("memory", [rllc.real_block(0.8, 2), rllc.gradient_history(3)])
def test_shares_sum_to_one_for_any_linear_memory(memory):
    laws = np.random.default_rng(0).normal(size=(4, memory.size))
    np.testing.assert_allclose(plot.gain_shares(memory, laws).sum(-1), 1, rtol=1e-6)
    axes = plot.law(memory, laws)
    assert axes.get_legend_handles_labels()[1][0] == "unit 1"


def test_a_law_is_plotted_as_shares_over_the_steps():
    laws, gain = recorded("leaf")
    axes = plot.law(MEMORY, laws, 10 * np.arange(1, 7))
    assert axes.get_legend_handles_labels()[1] == ["1 step", "10 steps", "100 steps"]
    for unit, line in enumerate(axes.lines):
        expected = (laws[..., unit] / (1 - [0.0, 0.9, 0.99][unit]) / gain).mean(axis=1)
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-4)
        np.testing.assert_array_equal(line.get_xdata(), 10 * np.arange(1, 7))


def test_a_plot_is_drawn_on_the_given_axes():
    figure = Figure()
    axes = figure.add_subplot()
    laws, _ = recorded(None)
    assert plot.law(MEMORY, laws, ax=axes) is axes
    weights = rllc.response(MEMORY, laws[-1], 12)
    assert plot.response(weights, ax=axes, label="final") is axes
    final = axes.lines[-1]
    np.testing.assert_allclose(final.get_ydata(), weights[0] / np.abs(weights).sum())
    assert final.get_label() == "final"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plot.law(MEMORY, np.ones((4, 2))), ValueError, r"laws: .*\(4, 2\)"),
        (lambda: plot.law(MEMORY, np.ones(3)), ValueError, r"laws: .*points"),
        (lambda: plot.law(MEMORY, np.ones((0, 3))), ValueError, r"laws: .*\(0, 3\)"),
        (lambda: plot.law(MEMORY, np.ones((2, 0, 3))), ValueError, "laws: .*one law"),
        (lambda: plot.gain_shares(UNDAMPED, [1.0]), ValueError, "memory: .* a damped"),
        (lambda: plot.law(GROWING, [[1.0]]), ValueError, "memory: .* a damped one"),
        (lambda: plot.response(1.0), ValueError, r"weights: .* got \(\)"),
        (lambda: plot.response([]), ValueError, r"weights: .* got \(0,\)"),
        (lambda: plot.law(MEMORY, np.ones((4, 3)), [1, 2]), ValueError, "steps: exp"),
        (
            lambda: plot.gain_shares(rllc.units(optax.sgd(1.0)), [1.0]),
            TypeError,
            "memory: expected a LinearMemory",
        ),
    ],
)
def test_what_cannot_be_plotted_raises(call, error, message):
    with pytest.raises(error, match=message):
        call()
