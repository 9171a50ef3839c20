"""Intervals, null values and permutation tests for any index."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stitching.similarity._samples import Activation, pair

# Values of equal samples in another order differ by at most 7 roundings of the largest.
_ROUNDINGS = 32

Index = Callable[[Array, Array], Any]


class Bootstrap(NamedTuple):
    """An index with its interval.

    Attributes:
        value: the index of all samples.
        low: lower end of the interval, for what the index tends to with many samples.
        high: upper end.
        bias: estimate of what `value` exceeds that limit by.
    """

    value: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    bias: Float[Array, ""]


def bootstrap(
    index: Index,
    x: Activation,
    y: Activation,
    *,
    key: Array,
    draws: int = 1000,
    level: float = 0.95,
    batch_size: int = 8,
) -> Bootstrap:
    r"""Return an index with an interval over samples that corrects its bias.

    The index of random halves of the samples, drawn without replacement, varies about
    its mean as that of all samples varies from one set of samples to another; where the
    bias falls as 1/n, that mean exceeds the value of all samples by the bias. With the
    quantiles q of the halves and their mean m,

    .. math::

        \left[2\hat\theta - q_{1 - \alpha/2},\; 2\hat\theta - q_{\alpha/2}\right],
        \qquad \text{bias} = m - \hat\theta

    Right for indices of bias ~ 1/n with many more samples than features: `cka`, `cca`,
    `pwcca`, `linear_regression`, and those of little bias. For `svcca`,
    `max_correlation`, `matched_correlation` and distances near 0 part of it stays.
    Resampling with replacement would not do: copies of a sample are each other's
    nearest neighbours and correlate features.

    Args:
        index: from two activations to a number, or an array. One of your own is
            compiled anew in each call, as it may read something that has changed.
        x, y: (n, p) and (n, q), n at least 6. Samples that are not independent, such as
            positions of one image, make the interval too narrow.
        key: of the random halves.
        draws: number of halves.
        level: of the interval, in (0, 1).
        batch_size: how many halves are computed at once.

    Returns:
        The `Bootstrap`.

    Raises:
        TypeError, ValueError: as `index` does, and if a number is out of range.

    Example:
        >>> import jax
        >>> from stitching import similarity
        >>> x = jax.random.normal(jax.random.key(0), (100, 3))
        >>> found = similarity.bootstrap(similarity.cka, x, x, key=jax.random.key(1))
        >>> [round(float(end), 3) for end in (found.low, found.high)]
        [1.0, 1.0]

    References:
        Politis and Romano, "Large sample confidence regions based on subsamples under
        minimal assumptions", 1994; Shao and Wu, "A general theory for jackknife
        variance estimation", 1989.
    """
    x, y = pair(x, y, least=6)
    _check_draws("draws", draws)
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number in (0, 1), got {level}")
    n = len(x)
    value = jnp.asarray(index(x, y))
    order = _orders(key, n, draws)[:, : n // 2]
    halves = _values(index, x, y, order, order, batch_size)
    mean = halves.mean(axis=0)
    # An odd number of samples has halves that are a little smaller.
    scale = jnp.sqrt(n // 2 / (n - n // 2))
    tails = jnp.array([(1 + level) / 2, (1 - level) / 2])
    deviations = scale * (jnp.quantile(halves, tails, axis=0) - mean)
    bias = mean - value
    low, high = value - bias - deviations
    return Bootstrap(value, low, high, bias)


class PermutationTest(NamedTuple):
    """An index among those of shuffled samples.

    Attributes:
        value: the index of the samples as they are.
        null: (permutations,), the index with the samples of y shuffled.
        p_value: the probability of a value as extreme as this one among shuffled
            samples, this one counted among them; at least 1 / (permutations + 1).
    """

    value: Float[Array, ""]
    null: Float[Array, " permutations"]
    p_value: Float[Array, ""]

    @property
    def null_value(self) -> Float[Array, ""]:
        """The mean of the index under shuffled samples: its value by chance."""
        return self.null.mean(axis=0)


def permutation_test(
    index: Index,
    x: Activation,
    y: Activation,
    *,
    key: Array,
    permutations: int = 999,
    larger_is_similar: bool = True,
    batch_size: int = 8,
) -> PermutationTest:
    """Test whether two activations are more similar than with shuffled samples.

    The null hypothesis is that the samples of x and y are independent. The level of the
    test is exact for every index and any number of samples: values that are equal up to
    rounding, as those of class labels often are, count as equal.

    Args:
        index: from two activations to a number, as for `bootstrap`.
        x, y: (n, p) and (n, q). Samples must be exchangeable: images, not positions.
        key: of the permutations.
        permutations: their number.
        larger_is_similar: whether larger values mean more similar; False for distances.
        batch_size: how many permutations are computed at once.

    Returns:
        The `PermutationTest`; `null_value` is what to compare the value with.

    Raises:
        TypeError, ValueError: as `index` does, and if a number is out of range.

    Example:
        >>> import jax
        >>> from stitching import similarity
        >>> x = jax.random.normal(jax.random.key(0), (30, 6))
        >>> test = similarity.permutation_test(
        ...     similarity.linear_regression, x, x[:, :2], key=jax.random.key(1)
        ... )
        >>> round(float(test.p_value), 3), round(float(test.null_value), 1)
        (0.001, 0.2)
    """
    x, y = pair(x, y)
    _check_draws("permutations", permutations)
    value = jnp.asarray(index(x, y))
    order = _orders(key, len(x), permutations)
    same = jnp.arange(len(x))[None]
    # The samples as they are go through the same program, and its rounding.
    rows = jnp.concatenate([same.astype(order.dtype), order])
    found = _values(index, x, y, same, rows, batch_size)
    seen, null = found[0], found[1:]
    extreme = null >= seen if larger_is_similar else null <= seen
    extreme |= jnp.abs(null - seen) <= _rounding(seen, null)
    return PermutationTest(value, null, (1 + extreme.sum(axis=0)) / (1 + permutations))


def _rounding(value: Array, null: Array) -> Array:
    """What a value may differ by from null values that equal it.

    A distance is the root of a number that is rounded: near 0 it is less exact.
    """
    share = _ROUNDINGS * jnp.finfo(jnp.result_type(null, float)).eps
    scale = jnp.abs(null).max(axis=0)
    near = jnp.maximum(jnp.abs(value), jnp.sqrt(share) * scale)
    return share * scale * (scale / jnp.where(near > 0, near, 1))


def _check_draws(name: str, number: Any) -> None:
    if not isinstance(number, int | np.integer) or number < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {number!r}")


@functools.partial(jax.jit, static_argnums=(1, 2))
def _orders(key: Array, n: int, count: int) -> Array:
    keys = jax.random.split(key, count)
    return jax.lax.map(lambda key: jax.random.permutation(key, n), keys)


def _values(
    index: Index, x: Array, y: Array, rows_x: Array, rows_y: Array, batch_size: int
) -> Array:
    """The index of each choice of rows."""
    rows_x = jnp.broadcast_to(rows_x, rows_y.shape)
    # A function of your own runs anew for the value and for its draws, as it may read
    # something that changes.
    function = index.func if isinstance(index, functools.partial) else index
    own = getattr(function, "__module__", "").startswith("stitching.")
    if own:
        compiled = functools.partial(_compiled_each, index, batch_size)
    else:
        compiled = jax.jit(functools.partial(_each, index, batch_size))
    try:
        return compiled(x, y, rows_x, rows_y)
    except TypeError:  # It needs values, as assignments on the host do.
        pairs = zip(rows_x, rows_y, strict=True)
        return jnp.stack([jnp.asarray(index(x[i], y[j])) for i, j in pairs])


def _each(
    index: Index, batch_size: int, x: Array, y: Array, rows_x: Array, rows_y: Array
) -> Array:
    def one(rows):
        return jnp.asarray(index(x[rows[0]], y[rows[1]]))

    return jax.lax.map(one, (rows_x, rows_y), batch_size=batch_size)


_compiled_each = jax.jit(_each, static_argnums=(0, 1))
