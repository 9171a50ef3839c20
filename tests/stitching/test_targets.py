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


def test_squared_error_is_the_mean_over_samples_and_entries():
    values = RNG.normal(size=(8, 5))
    expected = np.mean((LOGITS - values) ** 2)
    np.testing.assert_allclose(loss(targets.squared_error(values)), expected)
    pull = 2 * (LOGITS - values) / values.size
    np.testing.assert_allclose(gradient(targets.squared_error(values)), pull)


MASK = np.array([1, 0, 1, 1, 0, 1, 1, 1])
TARGETS = {
    "hard": lambda rows, **options: targets.hard(
        np.where(MASK == 1, LABELS, -100)[rows], **options
    ),
    "soft": lambda rows, **options: targets.soft(
        np.where(MASK[:, None] == 1, OTHERS[0], np.nan)[rows], 2.0, **options
    ),
    "squared error": lambda rows, **options: targets.squared_error(
        np.where(MASK[:, None] == 1, OTHERS[0], np.inf)[rows], **options
    ),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("mask", [MASK, MASK == 1, 3.0 * MASK], ids=["01", "bool", "3"])
def test_masked_samples_are_left_out_whatever_they_hold(name, mask):
    seen = np.flatnonzero(MASK)
    padded = np.where(MASK[:, None] == 1, LOGITS, np.nan)
    whole, part = TARGETS[name](slice(None), weights=mask), TARGETS[name](seen)
    np.testing.assert_allclose(loss(whole, padded), loss(part, LOGITS[seen]))
    pull = np.asarray(gradient(whole, padded))
    np.testing.assert_allclose(pull[seen], gradient(part, LOGITS[seen]), atol=1e-12)
    assert (pull[MASK == 0] == 0).all()
    # So it is in a minibatch, and in one that has nothing else.
    for rows in ([0, 1, 2], [1, 4]):
        taken = jax.tree.map(lambda leaf: leaf[np.array(rows)], whole)  # noqa: B023
        kept = [row for row in rows if MASK[row]]
        expected = loss(TARGETS[name](kept), LOGITS[kept]) if kept else 0
        np.testing.assert_allclose(loss(taken, padded[rows]), expected)


@pytest.mark.parametrize("name", TARGETS)
def test_a_weight_of_two_is_a_sample_seen_twice(name):
    weights = np.where(MASK == 1, RNG.integers(1, 4, size=8), 0)
    repeated = np.repeat(np.arange(8), weights)
    whole, part = TARGETS[name](slice(None), weights=weights), TARGETS[name](repeated)
    np.testing.assert_allclose(loss(whole), loss(part, LOGITS[repeated]))


@pytest.mark.parametrize("view", [similarity.positions, similarity.flattened])
def test_cka_leaves_masked_samples_out(view):
    given, own = RNG.normal(size=(2, 8, 3, 4))
    seen = np.flatnonzero(MASK)
    given[MASK == 0] = np.nan
    target = targets.cka(own, view, weights=MASK)
    expected = 1 - similarity.cka(view(given[seen]), view(own[seen]))
    np.testing.assert_allclose(target.loss(None, jnp.asarray(given)), expected)


@pytest.mark.parametrize("view", [similarity.positions, similarity.flattened])
@pytest.mark.parametrize("samples", [0, 1])
def test_cka_of_fewer_than_two_samples_is_no_loss(view, samples):
    given, own = RNG.normal(size=(2, 8, 3))
    target = targets.cka(own, view, weights=(np.arange(8) < samples) * 2.0)

    @jax.jit
    def both(target, given):
        return jax.value_and_grad(lambda given: target.loss(None, given))(given)

    for each in (given, np.full_like(given, 3), np.where(given > 0, np.nan, given)):
        value, pull = both(target, jnp.asarray(each))
        assert value == 0
        assert not pull.any()
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), target)
    value, pull = jax.vmap(both)(stack, jnp.stack([given, given]))
    assert not value.any()
    assert not pull.any()


@pytest.mark.parametrize("view", [similarity.positions, similarity.flattened])
def test_cka_pulls_on_the_samples_that_count_and_on_no_others(view):
    given, own = RNG.normal(size=(2, 8, 3, 4))
    target = targets.cka(own, view, weights=np.arange(8) < 3)

    def loss(activation):
        return target.loss(None, activation)

    pull = jax.grad(loss)(jnp.asarray(given))
    assert pull[:3].all()
    assert not pull[3:].any()


def test_positions_of_one_sequence_are_samples_of_cka():
    given, own = RNG.normal(size=(2, 4, 5, 3))
    weights = (np.arange(4)[:, None] == 2) & (np.arange(5) < 3)
    target = targets.cka(own, weights=weights)
    expected = 1 - similarity.cka(given[2, :3], own[2, :3])
    np.testing.assert_allclose(target.loss(None, jnp.asarray(given)), expected)


def test_weights_of_sequences_and_of_tokens():
    tokens, labels = LOGITS.reshape(2, 4, 5), LABELS.reshape(2, 4)
    sequences = targets.hard(labels, weights=np.array([0, 1]))
    expected = loss(targets.hard(labels[1:]), tokens[1:])
    np.testing.assert_allclose(loss(sequences, tokens), expected)
    by_token = targets.hard(labels, weights=MASK.reshape(2, 4))
    expected = loss(targets.hard(LABELS[MASK == 1]), LOGITS[MASK == 1])
    np.testing.assert_allclose(loss(by_token, tokens), expected)


def test_a_function_picks_from_several_outputs():
    values = RNG.normal(size=(8, 2))
    outputs = {"class": jnp.asarray(LOGITS), "place": jnp.ones((8, 2))}
    target = targets.hard(LABELS, pick=lambda given: given["class"])
    target += 0.5 * targets.squared_error(values, pick=lambda given: given["place"])
    expected = loss(targets.hard(LABELS)) + 0.5 * np.mean((1 - values) ** 2)
    np.testing.assert_allclose(target.loss(outputs, None), expected)
    target.check(jax.eval_shape(lambda: outputs), None)
    with pytest.raises(ValueError, match=r"one array .* got dict; .* `pick`"):
        targets.hard(LABELS).check(jax.eval_shape(lambda: outputs), None)
    wrong = targets.squared_error(values, pick=lambda given: given["class"])
    with pytest.raises(ValueError, match=r"values of shape \(8, 5\), .* got \(8, 2\)"):
        wrong.check(jax.eval_shape(lambda: outputs), None)
