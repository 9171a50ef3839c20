"""Claims about Adaptive Memory: its steps minimize the model that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from benchmarks.adaptive_memory import adaptive_memory, adaptive_memory_adam

PENALTY = 0.1


def rate(count):
    """Return a falling rate: the first step's is 1.25 times the second's."""
    return 0.5 / (1 + 0.25 * count)


def steps(optimizer, gradients):
    """Return the updates for rows of gradients."""
    state, updates = optimizer.init(jnp.zeros_like(gradients[0])), []
    for gradient in gradients:
        update, state = jax.jit(optimizer.update)(gradient, state)
        updates.append(update)
    return np.array(updates)


def minimizer(g, d, scale):
    """Return the step that minimizes the two-plane model, found by SLSQP."""
    last, h = rate(0), rate(1)
    gap = last * np.sum(g * d / scale)

    def model(point):
        *s, height = point
        direction = -scale * np.array(s) / h
        near = np.sum(scale * np.square(s)) / (2 * h)
        return height + near + PENALTY * h / 2 * np.sum((direction - d) ** 2)

    planes = [
        {"type": "ineq", "fun": lambda x: x[-1] - g @ x[:-1]},
        {"type": "ineq", "fun": lambda x: x[-1] - gap - d @ x[:-1]},
    ]
    start = np.append(-h * g / scale, 10.0)
    found = scipy.optimize.minimize(model, start, constraints=planes, tol=1e-14)
    return found.x[:-1]


@pytest.mark.parametrize("seed", range(4))
def test_a_step_minimizes_the_higher_of_two_planes(seed):
    with jax.enable_x64():
        first, second = np.random.default_rng(seed).normal(size=(2, 5))
        second += 0.3 * first
        found = steps(adaptive_memory(rate, max_decay=1.0), np.array([first, second]))
        expected = minimizer(second, first, np.ones(5))
        np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", [1, 2, 4, 6])  # the decay is below the largest
def test_a_step_minimizes_the_model_in_adams_metric(seed):
    largest, b2 = 0.9, 0.99
    with jax.enable_x64():
        first, second = np.random.default_rng(seed).normal(size=(2, 5))
        second -= first
        optimizer = adaptive_memory_adam(rate, largest, b2=b2, eps=1e-8)
        found = steps(optimizer, np.array([first, second]))
        # After the first step, whose decay is the largest.
        scale = (1 - largest) * (np.abs(first) + 1e-8)
        direction = (1 - largest) * first / (1 + PENALTY * scale)
        np.testing.assert_allclose(found[0], -rate(0) * direction / scale)
        moment = (b2 * first**2 + second**2) / (1 + b2)
        scale = (1 - largest**2) * (np.sqrt(moment) + 1e-8)
        expected = minimizer(second, direction, scale)
        np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-7)


def test_the_decay_is_that_of_the_closed_form_over_all_parameters():
    gradients = np.random.default_rng(0).normal(0.3, size=(8, 6))
    optimizer = adaptive_memory(lambda count: 0.5)
    state, memory = None, gradients[0]
    for g in gradients:
        tree = {"a": g[:2], "b": g[2:].reshape(2, 2)}
        with jax.enable_x64():
            state = state or optimizer.init(tree)
            updates, state = jax.jit(optimizer.update)(tree, state)
        # At a constant rate the terms of β collect to this.
        above = g @ g + 2 * PENALTY * g @ memory - PENALTY * memory @ memory
        below = np.sum((g - memory) ** 2)
        decay = np.clip(above / below, 0, 0.9) if below else 0.0
        memory = ((1 - decay) * g + (decay + PENALTY) * memory) / (1 + PENALTY)
        found = np.concatenate([np.ravel(x) for x in jax.tree.leaves(updates)])
        np.testing.assert_allclose(found, -0.5 * memory, rtol=1e-9)


def test_without_a_penalty_and_at_the_largest_decay_it_is_adam():
    with jax.enable_x64():
        gradients = np.tile(np.random.default_rng(0).normal(size=4), (10, 1))
        optimizer = adaptive_memory_adam(lambda count: 0.1, 0.9, penalty=0.0)
        expected = steps(optax.adam(0.1, b1=0.9), gradients)
        np.testing.assert_allclose(steps(optimizer, gradients), expected, rtol=1e-9)
