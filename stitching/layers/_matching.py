"""Layers that take single channels for single channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from optax.assignment import hungarian_algorithm

from stitching.direct import Fit
from stitching.layers._stitching_layer import StitchingLayer


class Matching(StitchingLayer):
    r"""A matching of channels that trains: the best one under trained scores.

    .. math::

        W = \arg\max_{P} \langle P, S \rangle

    over matrices P of zeros and ones. The gradient goes straight through: the scores S
    get that of the weight. Every step computes an assignment, under `jit` and `vmap`
    too.

    Attributes:
        one_to_one: whether no two targets take the same source: a permutation, where
            p ≠ q of the fewer channels. Else each target takes its best source.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.Matching(3)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> weight = layer.fit(variables).weight
        >>> weight.sum(axis=0).tolist(), weight.sum(axis=1).tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])

    References:
        Bengio, Léonard and Courville, 2013, arXiv 1308.3432 (straight through);
        Ainsworth, Hayase and Srinivasa, 2022, arXiv 2209.04836 (for permutations).
    """

    one_to_one: bool = True

    rows = ("params", "scores")

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)
        scores = self.param("scores", lambda _: initial)
        fixed = jax.lax.stop_gradient(scores)
        hard = assignment(fixed) if self.one_to_one else best_sources(fixed)
        return Fit(hard + (scores - fixed), self.bias())


class FixedMatching(StitchingLayer):
    """A matching of channels that stays: each target takes the source it started with.

    Only the bias trains. The matching, zeros and ones, is the array "matching" of the
    collection "fixed". It is one-to-one if the initial weight is: take
    `random_permutation`, or `from_fit` of `stitching.permutation(moments)`. A target
    whose column of the initial weight is zero takes no source.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.FixedMatching(2, kernel_init=layers.random_permutation)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 2)))
        >>> list(variables["params"]), layer.fit(variables).weight.sum().item()
        (['bias'], 2.0)
    """

    rows = ("fixed", "matching")

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)
        taken = self.variable(
            "fixed",
            "matching",
            lambda: jnp.where(initial.any(axis=0), best_sources(initial), 0),
        )
        return Fit(taken.value, self.bias())


def assignment(scores: Float[Array, "p q"]) -> Float[Array, "p q"]:
    """The one-to-one matching of the highest sum of scores, as zeros and ones."""
    # With NaN the algorithm would not end.
    costs = jnp.where(jnp.isfinite(scores), -scores, 0)
    sources, targets = hungarian_algorithm(costs)
    return jnp.zeros_like(scores).at[sources, targets].set(1)


def best_sources(scores: Float[Array, "p q"]) -> Float[Array, "p q"]:
    """The source of the highest score for each target, as zeros and ones."""
    sources = scores.argmax(axis=0)
    return jax.nn.one_hot(sources, len(scores), axis=0, dtype=scores.dtype)
