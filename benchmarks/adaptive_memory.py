r"""Momentum whose decay is chosen anew at each step: Adaptive Memory.

The loss around the current parameters x is modelled by the higher of two planes: that
of the gradient g, and that of the remembered direction d, which lies higher by a gap.
A step of learning rate h goes along P⁻¹u, where u minimizes, with s = −h P⁻¹u,

.. math::

  \max(g^\top s,\ \mathrm{gap} + d^\top s) + \frac{1}{2h} s^\top P s
    + \frac{\lambda h}{2} \|u - d\|^2.

The minimizer mixes both planes by a decay β, which is the dual variable:

.. math::

  u = (I + \lambda P)^{-1} \bigl((1 - \beta) g + (\beta I + \lambda P) d\bigr),
  \qquad
  \beta = \frac{\mathrm{gap} / h - \langle d - g, g + \lambda P d\rangle_M}
    {\|d - g\|_M^2},
  \qquad M = P^{-1} (I + \lambda P)^{-1},

clipped to [0, `max_decay`]. At the current parameters the memory's plane has the loss
from before the last step, whose rate was h₋: to first order the gap is h₋ gᵀP⁻¹d. The
new memory is u.

References:
    Topollai and Choromanska, "Adaptive memory momentum via a model-based framework for
    deep learning optimization", 2025 (arXiv 2510.04988); λ and the largest decays are
    theirs for deep networks.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AdaptiveMemoryState(NamedTuple):
    """Steps so far, and the remembered direction."""

    count: jax.Array
    direction: optax.Updates


def adaptive_memory(
    learning_rate: optax.Schedule, max_decay: float = 0.9, penalty: float = 0.1
) -> optax.GradientTransformation:
    """Return Adaptive Memory with P = I and one decay for all parameters.

    The memory starts as the first gradient.

    Args:
        learning_rate: h by step, positive.
        max_decay: the largest β, in [0, 1].
        penalty: λ, at least 0.

    Example:
        >>> optimizer = adaptive_memory(optax.constant_schedule(0.1))
        >>> state = optimizer.init(jnp.zeros(2))
        >>> updates, state = optimizer.update(jnp.array([1.0, -2.0]), state)
        >>> bool(jnp.allclose(updates, jnp.array([-0.1, 0.2])))  # that of SGD
        True
    """

    def init(params: optax.Params) -> AdaptiveMemoryState:
        return AdaptiveMemoryState(
            jnp.zeros([], jnp.int32), optax.tree.zeros_like(params)
        )

    def update(updates, state, params=None):
        del params
        rate, ratio = _rates(learning_rate, state.count)
        memory = jax.tree.map(
            lambda g, d: jnp.where(state.count == 0, g, d), updates, state.direction
        )
        terms = jax.tree.map(
            lambda g, d: _terms(g, d, 1.0, ratio, penalty), updates, memory
        )
        decay = _decay(sum(jax.tree.leaves(terms)), max_decay)
        direction = jax.tree.map(
            lambda g, d: _mixed(g, d, 1.0, decay, penalty), updates, memory
        )
        steps = optax.tree.scale(-rate, direction)
        return steps, AdaptiveMemoryState(state.count + 1, direction)

    return optax.GradientTransformation(init, update)


class AdaptiveMemoryAdamState(NamedTuple):
    """Like Adam's; the product of the decays so far has one scalar per array."""

    count: jax.Array
    direction: optax.Updates
    second_moment: optax.Updates
    product: optax.Updates


def adaptive_memory_adam(
    learning_rate: optax.Schedule,
    max_decay: float = 0.89,
    b2: float = 0.999,
    eps: float = 1e-8,
    penalty: float = 0.1,
) -> optax.GradientTransformation:
    r"""Return Adaptive Memory with Adam's scaling and one decay for each array.

    .. math::

      P = \Bigl(1 - \beta_{\max} \prod_{i < t} \beta_i\Bigr)
        \Bigl(\sqrt{v / (1 - \beta_2^t)} + \epsilon\Bigr)

    The memory starts at zero, and the first decay is the largest.

    Args:
        learning_rate: h by step, positive.
        max_decay: the largest β, in [0, 1).
        b2: decay of the second moment v.
        eps: added to its root.
        penalty: λ, at least 0.

    Example:
        >>> optimizer = adaptive_memory_adam(optax.constant_schedule(0.1), penalty=0.0)
        >>> state = optimizer.init(jnp.zeros(2))
        >>> updates, state = optimizer.update(jnp.array([1.0, -2.0]), state)
        >>> bool(jnp.allclose(updates, jnp.array([-0.1, 0.1])))  # Adam's first step
        True
    """

    def init(params: optax.Params) -> AdaptiveMemoryAdamState:
        zeros = optax.tree.zeros_like(params)
        ones = jax.tree.map(lambda p: jnp.ones([], p.dtype), params)
        return AdaptiveMemoryAdamState(jnp.zeros([], jnp.int32), zeros, zeros, ones)

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        rate, ratio = _rates(learning_rate, state.count)
        second = optax.tree.update_moment(updates, state.second_moment, b2, 2)
        scale = jax.tree.map(
            lambda v, product: (1 - max_decay * product) * (jnp.sqrt(v) + eps),
            optax.tree.bias_correction(second, b2, count),
            state.product,
        )

        def choose(g, d, p):
            chosen = _decay(_terms(g, d, p, ratio, penalty), max_decay)
            return jnp.where(count == 1, max_decay, chosen)

        decays = jax.tree.map(choose, updates, state.direction, scale)
        direction = jax.tree.map(
            lambda g, d, p, decay: _mixed(g, d, p, decay, penalty),
            updates,
            state.direction,
            scale,
            decays,
        )
        product = jax.tree.map(jnp.multiply, state.product, decays)
        steps = jax.tree.map(lambda u, p: -rate * u / p, direction, scale)
        return steps, AdaptiveMemoryAdamState(count, direction, second, product)

    return optax.GradientTransformation(init, update)


def _rates(learning_rate: optax.Schedule, count: jax.Array) -> tuple[Any, Any]:
    """The rate, and the last step's rate divided by it."""
    rate: Any = learning_rate(count)
    return rate, learning_rate(jnp.maximum(count - 1, 0)) / rate


def _terms(g, d, scale, ratio, penalty):
    """Numerator and denominator of β, of one array."""
    metric = 1 / (scale * (1 + penalty * scale))
    gap = ratio * jnp.sum(g * d / scale)
    mixed = jnp.sum((d - g) * (g + penalty * scale * d) * metric)
    return jnp.stack([gap - mixed, jnp.sum((d - g) ** 2 * metric)])


def _decay(terms, max_decay):
    numerator, denominator = terms
    same = denominator == 0  # the planes agree: any decay gives the same step
    ratio = numerator / jnp.where(same, 1.0, denominator)
    return jnp.where(same, 0.0, jnp.clip(ratio, 0.0, max_decay))


def _mixed(g, d, scale, decay, penalty):
    """The new direction u."""
    mixed = (1 - decay) * g + (decay + penalty * scale) * d
    return mixed / (1 + penalty * scale)
