"""Plots of stitches: they show what the library's functions return."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stitching
from stitching import plot, report, similarity

X = jax.random.normal(jax.random.key(0), (200, 4))


@pytest.fixture(scope="module")
def audited():
    one, two = X @ jnp.tri(4), jnp.tanh(X)
    return report.audit_activations(
        lambda x, y: stitching.least_squares(stitching.moments(x, y)),
        source=(one[:100], one[100:]),
        own=(two[:100], two[100:]),
        back=lambda activation: 5 * activation,
        labels=X[100:].argmax(-1),
        key=jax.random.key(1),
    )


def test_every_pair_of_layers_has_its_score():
    layers = [X, X**2, X[:, :2]]
    scores = report.layer_scores(similarity.cka, layers, layers[:2])
    axes = plot.layer_to_layer(scores, ["a", "b", "c"], ["d", "e"], label="CKA")
    texts = [text.get_text() for text in axes.texts]
    assert texts == [f"{value:.2f}" for value in np.ravel(scores)]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["d", "e"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first layer on top


def test_of_one_network_with_itself_both_axes_have_its_names():
    axes = plot.layer_to_layer(np.eye(2), ["a", "b"])
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["a", "b"]


def test_curves_over_layers_are_means_of_pairs():
    pairs = np.array([[0.9, 0.5, 0.7], [0.7, 0.7, 0.9]])
    axes = plot.over_layers(pairs, interval=(pairs.min(0), pairs.max(0)))
    drawn = [line.get_ydata() for line in axes.lines]
    np.testing.assert_allclose(drawn, [pairs.mean(axis=0), *pairs])
    assert plot.over_layers([0.5, 0.6], ["a", "b"], ax=axes) is axes


@pytest.mark.parametrize("by_layer", [False, True])
def test_an_audit_is_shown_beside_its_controls(audited, by_layer):
    axes = plot.audit({"a": audited, "b": audited} if by_layer else audited)
    names = axes.get_legend_handles_labels()[1]
    drawn = dict(zip(names, axes.lines, strict=True))
    assert "control: untrained network a" not in names  # none was given
    for name, value in {
        "stitch": audited.measures.relative_accuracy,
        "control: noise": audited.controls.noise.relative_accuracy,
        "a constant answer": audited.chance,
    }.items():
        np.testing.assert_allclose(drawn[name].get_ydata(), value)


def test_nothing_is_no_plot():
    with pytest.raises(ValueError, match="found: expected at least one audit, got no"):
        plot.audit({})
    for values in ([], [[], []], np.zeros((0, 3))):
        with pytest.raises(ValueError, match="values: expected a number for each la"):
            plot.over_layers(values)


@pytest.mark.parametrize("library", ["rllc", "combinability", "stitching"])
def test_without_matplotlib_a_library_works_and_its_plots_say_what_to_install(library):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"import {library}\n"
        f"try: import {library}.plot\n"
        "except ImportError as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "pip install 'jax-between[plot]'" in told
