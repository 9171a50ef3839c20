"""Losses of stitched networks against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from stitching import similarity, targets

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(8, 5))
OTHERS = 2 * RNG.normal(size=(2, 8, 5))
LABELS = RNG.integers(5, size=8)

pytestmark = pytest.mark.usefixtures("x64")


def loss(target, logits=LOGITS):
    return target.loss(jnp.asarray(logits), None)


def gradient(target, logits=LOGITS):
    return jax.grad(lambda logits: target.loss(logits, None))(jnp.asarray(logits))


def test_hard_is_the_cross_entropy_of_labels():
    expected = -log_softmax(LOGITS, axis=1)[np.arange(8), LABELS].mean()
    np.testing.assert_allclose(loss(targets.hard(LABELS)), expected, rtol=1e-12)
    pull = (softmax(LOGITS, axis=1) - np.eye(5)[LABELS]) / 8
    np.testing.assert_allclose(gradient(targets.hard(LABELS)), pull, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_soft_is_the_cross_entropy_of_probabilities_at_a_temperature(temperature):
    target = targets.soft(OTHERS[0], temperature)
    wanted = softmax(OTHERS[0] / temperature, axis=1)
    logs = log_softmax(LOGITS / temperature, axis=1)
    expected = -(temperature**2) * (wanted * logs).sum(axis=1).mean()
    np.testing.assert_allclose(loss(target), expected, rtol=1e-12)
    pull = temperature * (softmax(LOGITS / temperature, axis=1) - wanted) / 8
    np.testing.assert_allclose(gradient(target), pull, atol=1e-12)


def test_soft_pulls_logits_together_at_a_high_temperature():
    """As T grows, the gradient becomes that of half the squared error per class."""
    centred = [z - z.mean(axis=1, keepdims=True) for z in (LOGITS, OTHERS[0])]
    expected = (centred[0] - centred[1]) / 8 / 5
    pull = gradient(targets.soft(OTHERS[0], 1e4))
    np.testing.assert_allclose(pull, expected, atol=1e-4)


def test_soft_of_itself_is_at_its_lowest():
    np.testing.assert_allclose(gradient(targets.soft(LOGITS, 3.0)), 0, atol=1e-12)


def test_the_mean_of_two_networks_probabilities_is_the_mean_of_their_losses():
    both = 0.5 * targets.soft(OTHERS[0]) + 0.5 * targets.soft(OTHERS[1])
    mean = softmax(OTHERS, axis=2).mean(axis=0)
    expected = -(mean * log_softmax(LOGITS, axis=1)).sum(axis=1).mean()
    np.testing.assert_allclose(loss(both), expected, rtol=1e-12)


def test_losses_add_and_scale():
    one, other = targets.hard(LABELS), targets.soft(OTHERS[0], 2.0)
    expected = 2 * loss(one) + loss(other) + 0.3 * loss(one)
    np.testing.assert_allclose(loss(2 * one + (other + one * 0.3)), expected)


def test_tokens_are_outputs_of_their_own():
    tokens, labels = LOGITS.reshape(2, 4, 5), LABELS.reshape(2, 4)
    expected = loss(targets.hard(LABELS)) + loss(targets.soft(OTHERS[0]))
    soft = targets.soft(OTHERS[0].reshape(2, 4, 5))
    np.testing.assert_allclose(loss(targets.hard(labels) + soft, tokens), expected)


@pytest.mark.parametrize("view", [similarity.positions, similarity.flattened])
def test_cka_is_the_index_of_what_is_given_and_what_is_there(view):
    given, own = RNG.normal(size=(2, 6, 3, 3, 4))
    target = targets.cka(own, view)
    expected = 1 - similarity.cka(view(given), view(own))
    np.testing.assert_allclose(target.loss(None, jnp.asarray(given)), expected)


def test_a_minibatch_of_a_target_is_the_target_of_the_minibatch():
    rows = jnp.array([3, 0, 7])
    whole = targets.hard(LABELS) + 0.5 * targets.soft(OTHERS[0], 2.0)
    part = targets.hard(LABELS[rows]) + 0.5 * targets.soft(OTHERS[0][rows], 2.0)
    taken = jax.tree.map(lambda leaf: leaf[rows], whole)
    np.testing.assert_allclose(loss(taken, LOGITS[rows]), loss(part, LOGITS[rows]))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: targets.hard([0.5]), TypeError, "labels: expected integers"),
        (lambda: targets.hard([1, -2]), ValueError, "at least 0, got -2"),
        (lambda: targets.hard(np.zeros(0, int)), ValueError, "at least 1"),
        (lambda: targets.soft([1.0, 2.0]), ValueError, "samples, ..., classes"),
        (lambda: targets.soft([[np.nan]]), ValueError, "finite"),
        (lambda: targets.soft(OTHERS[0], 0.0), ValueError, "temperature: .* got 0"),
        (lambda: targets.soft(OTHERS[0] + 1j), TypeError, "logits: expected real"),
        (lambda: targets.cka([1.0]), ValueError, "samples, ..., channels"),
        (lambda: -1 * targets.hard([0]), ValueError, "weight: .* got -1"),
        (lambda: targets.hard([0]) * None, TypeError, "unsupported"),
        (lambda: targets.hard([0]) + 1, TypeError, "unsupported"),
    ],
)
def test_what_is_no_target_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
