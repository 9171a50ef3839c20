"""The stitching layers: one class of affine maps each."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.linen.initializers import Initializer
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from optax.assignment import hungarian_algorithm

from stitching._linear import times
from stitching.direct._fit import Fit
from stitching.layers._proximal import Rate, proximal_l1
from stitching.layers._stitching_layer import StitchingLayer


class Affine(StitchingLayer):
    """Any affine map of channels: a 1×1 convolution with a bias.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.Affine(16)
        >>> maps = jnp.ones((2, 8, 8, 32))
        >>> variables = layer.init(jax.random.key(0), maps)
        >>> layer.apply(variables, maps).shape, variables["params"]["kernel"].shape
        ((2, 8, 8, 16), (32, 16))

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)
        return Fit(self.param("kernel", lambda _: initial), self.bias())


class Sparse(Affine, kw_only=True):
    r"""An affine map trained with an L1 penalty on its weight, to exact zeros.

    .. math::

        \min_{W, b} \text{loss}(W, b) + \lambda \sum_{ij} |W_{ij}|

    The penalty is not part of the loss (its gradient would give small numbers instead
    of zeros) but a proximal step behind the optimizer: chain `proximal` behind it.

    Attributes:
        penalty: λ ≥ 0, in units of the loss over those of the weight.

    Raises:
        ValueError: by `proximal`, if the penalty is negative.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from stitching import layers
        >>> layer = layers.Sparse(2, penalty=10.0)
        >>> optimizer = optax.chain(optax.sgd(0.1), layer.proximal(0.1))
        >>> params = layer.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        >>> gradients = jax.tree.map(jnp.zeros_like, params)
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].any().item()
        False

    References:
        Csiszárik et al., 2021, arXiv 2110.14633 (L1 by subgradients there).
    """

    penalty: float

    def proximal(self, learning_rate: Rate) -> optax.GradientTransformation:
        """The proximal step of the penalty; as `proximal_l1`, on the kernel."""
        return proximal_l1(self.penalty, learning_rate)


class MaskedAffine(StitchingLayer):
    """An affine map whose weight is exactly zero outside a fixed mask.

    The mask is the array "mask" of the collection "fixed", so that it can be changed
    and vmapped.

    Attributes:
        mask_init: makes the mask (p, q), for instance `jax.nn.initializers.constant(m)`
            of an array of zeros and ones. By default the mask is where the initial
            weight is not zero: with `from_fit` of a sparse fit, its support.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> mask = jax.nn.initializers.constant(jnp.array([[1, 0], [1, 1]]))
        >>> layer = layers.MaskedAffine(2, mask_init=mask)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 2)))
        >>> (layer.fit(variables).weight != 0).tolist()
        [[True, False], [True, True]]

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """

    mask_init: Initializer | None = None

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)

        def mask():
            if self.mask_init is None:
                return initial != 0
            key = self.make_rng("params")
            return self.mask_init(key, initial.shape, initial.dtype) != 0

        allowed = self.variable("fixed", "mask", mask).value
        kernel = self.param("kernel", lambda _: jnp.where(allowed, initial, 0))
        return Fit(jnp.where(allowed, kernel, 0), self.bias())


class LowRank(StitchingLayer, kw_only=True):
    r"""An affine map whose weight has at most a given rank: a product of two factors.

    .. math::

        x \mapsto (x L) R + b, \qquad L: (p, r), \quad R: (r, q)

    It starts at the truncated singular value decomposition of the initial weight, with
    the singular values shared between the factors. Where one is zero, only the right
    factor is, so that a weight of lower rank trains to the full one.

    Attributes:
        rank: r, from 1 to min(p, q).

    Raises:
        ValueError: when called, if the rank is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.LowRank(16, rank=3)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 8)))
        >>> int(jnp.linalg.matrix_rank(layer.fit(variables).weight))
        3

    References:
        Csiszárik et al., 2021, arXiv 2110.14633.
    """

    rank: int

    rows = ("params", "left")

    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        left, right, bias = self.factors(channels)
        return Fit(times(left, right), bias)

    def __call__(self, activation: Float[ArrayLike, "*n p"]) -> Float[Array, "*n q"]:
        """The map of an activation, channels last, by one factor after the other."""
        activation = self.converted(activation)
        left, right, bias = self.factors(activation.shape[-1])
        return times(times(activation, left), right) + bias

    @nn.compact
    def factors(self, channels: int) -> tuple[Array, Array, Array]:
        """L, R and the bias."""
        if not 1 <= self.rank <= min(channels, self.features):
            raise ValueError(
                f"rank: expected 1 to {min(channels, self.features)} for a map of "
                f"{channels} to {self.features} channels, got {self.rank}"
            )
        initial = self.initial(channels)
        left = self.param("left", lambda _: self._truncated(initial)[0])
        right = self.param("right", lambda _: self._truncated(initial)[1])
        return left, right, self.bias()

    def _truncated(self, weight: Array) -> tuple[Array, Array]:
        left, values, right = jnp.linalg.svd(weight, full_matrices=False)
        left, right = left[:, : self.rank], right[: self.rank]
        values = values[: self.rank]
        resolution = max(weight.shape) * jnp.finfo(values.dtype).eps
        zero = values <= resolution * values[0]
        # Where both factors were zero, neither would get a gradient.
        roots = jnp.sqrt(values)
        left = left * jnp.where(zero, 1, roots)
        return left, jnp.where(zero, 0, roots)[:, None] * right


class Orthogonal(StitchingLayer):
    r"""A map with orthonormal columns (p ≥ q) or rows (p ≤ q), however it is trained.

    It starts at a fixed W₀, the polar factor of the initial weight (a random one, if
    that is Gaussian, is uniformly distributed), and turns it by the Cayley transform of
    a trained matrix G, of size n = max(p, q), that starts at zero:

    .. math::

        C = (1 - \tfrac12 A)^{-1} (1 + \tfrac12 A), \quad A = \tfrac12 (G - G^\top),
        \qquad W = C W_0 \text{ or } W_0 C

    C is a rotation for every G, and 1 + A to first order, so a learning rate means what
    it means for entries of the weight. Rotations by 180° are reached only in the limit,
    measured from W₀; reflections stay reflections for p = q.

    Attributes:
        scaled: whether the map is multiplied by a trained number, which starts as the
            mean singular value of the initial weight.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from stitching import layers
        >>> layer = layers.Orthogonal(3)
        >>> weight = layer.fit(layer.init(jax.random.key(0), jnp.ones((1, 5)))).weight
        >>> bool(jnp.abs(weight.T @ weight - jnp.eye(3)).max() < 1e-5)
        True

    References:
        Lezcano-Casado, 2019, arXiv 1909.09501 (turning a fixed map).
    """

    scaled: bool = False

    rows = ("fixed", "base")

    @nn.compact
    def map(self, channels: int) -> Fit:
        """Return the current map, for this number of input channels."""
        initial = self.initial(channels)
        base = self.variable("fixed", "base", lambda: _polar(initial)[0]).value
        size = max(initial.shape)
        zeros = jnp.zeros((size, size), base.dtype)
        generator = self.param("generator", lambda _: zeros)
        turn = cayley((generator - generator.T) / 2)
        weight = times(turn, base) if channels == size else times(base, turn)
        if self.scaled:
            weight = weight * self.param("scale", lambda _: _polar(initial)[1])
        return Fit(weight, self.bias())


def cayley(skew: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The rotation (1 − A/2)⁻¹ (1 + A/2) of a skew-symmetric A.

    Solving loses orthogonality as A grows, about a thousand roundings at entries of
    1000; one step of Newton and Schulz brings it back to a few.
    """
    one = jnp.eye(len(skew), dtype=skew.dtype)
    turn = jnp.linalg.solve(one - skew / 2, one + skew / 2)
    return times(turn, 3 * one - times(turn.T, turn)) / 2


def _polar(weight: Float[Array, "p q"]) -> tuple[Array, Array]:
    """The nearest semi-orthogonal matrix, and its best scale."""
    left, values, right = jnp.linalg.svd(weight, full_matrices=False)
    return times(left, right), values.mean()


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
        hard = assignment(fixed) if self.one_to_one else _best_sources(fixed)
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

        def matching():
            return jnp.where(initial.any(axis=0), _best_sources(initial), 0)

        return Fit(self.variable(*self.rows, matching).value, self.bias())


@jax.jit
def assignment(scores: Float[Array, "p q"]) -> Float[Array, "p q"]:
    """The one-to-one matching of the highest sum of scores, as zeros and ones."""
    # With NaN the algorithm would not end.
    costs = jnp.where(jnp.isfinite(scores), -scores, 0)
    sources, targets = hungarian_algorithm(costs)
    return jnp.zeros_like(scores).at[sources, targets].set(1)


def _best_sources(scores: Float[Array, "p q"]) -> Float[Array, "p q"]:
    """The source of the highest score for each target, as zeros and ones."""
    sources = scores.argmax(axis=0)
    return jax.nn.one_hot(sources, len(scores), axis=0, dtype=scores.dtype)
