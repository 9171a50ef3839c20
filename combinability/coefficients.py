"""Distributions of coefficients over the hypercube of combinations and around it."""

import abc
import dataclasses
import functools
import math
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, PyTree

from combinability._checks import (
    Key,
    check_count,
    check_fraction,
    check_key,
    check_number,
)
from combinability._grains import (
    GRANULARITIES,
    Granularity,
    coefficient_dtype,
    grains,
)
from combinability._jaxpr import threefry_2x32
from combinability.symmetry._symmetry import Symmetry

__all__ = [
    "Coefficients",
    "Distribution",
    "bernoulli",
    "beta",
    "line",
    "normal",
    "simplex",
    "uniform",
]

# Bins of equal probability in which a quantile function is tabulated.
_BINS = 2**14


@runtime_checkable
class Coefficients(Protocol):
    """What `evaluate` draws coefficients from; you can write your own.

    Write a frozen dataclass, or anything else that is hashable and has a `repr` that
    says what it is: equal distributions are compiled once, and a checkpoint identifies
    its run by the `repr`.
    """

    def sample(self, index: Any, variables: PyTree, *, key: Key) -> PyTree:
        """Return the coefficients of one sample.

        Args:
            index: number of the sample, a traced integer.
            variables: a network, for structure, shapes and dtypes.
            key: the same for all samples.

        Returns:
            What `combine` takes (or `combine_many`, for `evaluate_many`).
        """
        ...


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A law for each coefficient, and which parameters share a coefficient.

    Returned by `uniform`, `bernoulli`, `beta`, `normal`, `line` and `simplex`.

    Attributes:
        law: what a coefficient is drawn from.
        granularity: what has a coefficient of its own. `"element"`: each parameter.
            `"neuron"`: each unit of a permutable group. All arrays that produce the
            unit share its coefficient: the column of a kernel, bias, scale and running
            statistics, since an array belongs to the group on the last of its axes that
            carries one. The last layer, whose outputs cannot be permuted, shares the
            coefficients of the units that it reads. An array without a group has one
            coefficient. `"tensor"`: each array. `"module"`: the arrays under one parent
            path (in a Flax variables dictionary, in all collections of a module).
            `"model"`: one for all parameters.
        symmetry: the groups; needed by `"neuron"` only.
    """

    law: "Law"
    granularity: Granularity = "element"
    symmetry: Symmetry | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"granularity: expected one of {', '.join(GRANULARITIES)}, got "
                f"{self.granularity!r}"
            )
        if self.granularity == "neuron" and not isinstance(self.symmetry, Symmetry):
            raise ValueError(
                "symmetry: expected a Symmetry for granularity 'neuron', got "
                f"{self.symmetry!r}; see infer_symmetry"
            )

    def sample(self, index: Any, variables: PyTree, *, key: Key) -> PyTree:
        """Return the coefficients of one sample.

        They depend on key, index and the shapes of the arrays in the tree only.

        Args:
            index: number of the sample, from 0; may be traced.
            variables: a network, for structure, shapes and dtypes.
            key: a PRNG key, the same for all samples.

        Returns:
            A tree like variables whose leaves broadcast to theirs, in the real dtype
            of the widest of them and at least float32. For `simplex(n)` each leaf has
            a leading axis n. Leaves that are not combined (integers, keys) have
            coefficient 0.

        Raises:
            TypeError: if key is not a PRNG key.
            ValueError: if the variables do not fit the symmetry.

        Example:
            >>> import jax, jax.numpy as jnp, combinability
            >>> variables = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
            >>> distribution = combinability.uniform(-0.5, 1.5, granularity="tensor")
            >>> drawn = distribution.sample(7, variables, key=jax.random.key(0))
            >>> drawn["w"].shape, drawn["b"].shape
            ((), ())
        """
        dtype = coefficient_dtype(variables)
        plan = grains(self.granularity, self.symmetry, variables)
        key = jax.random.fold_in(check_key(key), index)
        # All at once: a draw for each array takes much longer to compile.
        sizes = [math.prod(shape) for shape in plan.shapes.values()]
        u = _uniform_numbers(key, (self.law.uniforms, sum(sizes)), dtype)
        drawn = self.law.coefficients(u, index)
        parts = jnp.split(drawn, np.cumsum(sizes)[:-1], axis=-1) if sizes else []
        draws = {
            number: part.reshape(*part.shape[:-1], *shape)
            for (number, shape), part in zip(plan.shapes.items(), parts, strict=True)
        }
        return plan.place(draws) if self.models is None else jax.vmap(plan.place)(draws)

    @property
    def models(self) -> int | None:
        """How many networks `simplex` combines; None for two networks."""
        return self.law.n if isinstance(self.law, Dirichlet) else None

    @property
    def points(self) -> int | None:
        """The number of samples of `line(points)`; None where they are random."""
        return self.law.points if isinstance(self.law, Spaced) else None


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients uniform in [low, high].

    Args:
        low: smallest coefficient; 0 is a, below 0 is beyond a.
        high: largest coefficient, not less than low; 1 is b, above 1 is beyond b.
        granularity: what has a coefficient of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        The distribution.

    Raises:
        ValueError: if a bound is not finite, low exceeds high, or the granularity is
            unknown or lacks its symmetry.

    Example:
        >>> import combinability
        >>> combinability.uniform(-0.2, 1.2, granularity="module").law
        Uniform(low=-0.2, high=1.2)
    """
    low, high = check_number("low", low), check_number("high", high)
    if low > high:
        raise ValueError(f"low: expected at most high = {high}, got {low}")
    return Distribution(Uniform(low, high), granularity, symmetry)


def bernoulli(
    probability: float = 0.5,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients that are 1 with a probability, else 0: vertices of the cube.

    Args:
        probability: of 1, that is of b's value, in [0, 1].
        granularity: what has a coefficient of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        The distribution.

    Raises:
        ValueError: if the probability is outside [0, 1], or as `uniform`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> always_b = combinability.coefficients.bernoulli(1.0)
        >>> always_b.sample(0, jnp.ones(3), key=jax.random.key(0)).tolist()
        [1.0, 1.0, 1.0]
    """
    probability = check_fraction("probability", probability)
    return Distribution(Bernoulli(probability), granularity, symmetry)


def beta(
    alpha: float,
    beta: float,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients of density proportional to tᵅ⁻¹(1 − t)ᵝ⁻¹ on [0, 1].

    Both parameters below 1: near the vertices; both above 1: near the centre. Drawn
    from a table of quantiles: the probability of each of 16,384 bins is exact, and the
    density is uniform within a bin.

    Args:
        alpha: α > 0.
        beta: β > 0.
        granularity: what has a coefficient of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        The distribution, of mean α / (α + β).

    Raises:
        ValueError: if α or β is not positive, or as `uniform`.

    Example:
        >>> import combinability
        >>> combinability.coefficients.beta(0.5, 0.5).law
        Beta(alpha=0.5, beta=0.5)
    """
    law = Beta(
        check_number("alpha", alpha, above=0), check_number("beta", beta, above=0)
    )
    return Distribution(law, granularity, symmetry)


def normal(
    mean: float = 0.5,
    scale: float = 0.25,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return normal coefficients, inside and outside [0, 1].

    Args:
        mean: centre; 0.5 is the middle of the cube.
        scale: standard deviation, not negative. With the defaults 4.6 % of the
            coefficients lie outside [0, 1].
        granularity: what has a coefficient of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        The distribution.

    Raises:
        ValueError: if a parameter is not finite or scale negative, or as `uniform`.

    Example:
        >>> import combinability
        >>> combinability.coefficients.normal(scale=0.1).law
        Normal(mean=0.5, scale=0.1)
    """
    mean, scale = check_number("mean", mean), check_number("scale", scale)
    if scale < 0:
        raise ValueError(f"scale: expected a number of at least 0, got {scale}")
    return Distribution(Normal(mean, scale), granularity, symmetry)


def line(
    points: int | None = None, *, low: float = 0.0, high: float = 1.0
) -> Distribution:
    """Return one coefficient for the whole network: linear interpolation from a to b.

    Args:
        points: if given, sample i has the i-th of this many evenly spaced coefficients
            from low to high, both included, and `samples` must be this number. By
            default coefficients are uniform in [low, high].
        low: smallest coefficient; 0 is a.
        high: largest coefficient, not less than low; 1 is b.

    Returns:
        The distribution, of granularity "model".

    Raises:
        ValueError: if there are fewer than 2 points, or as `uniform`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> line, key = combinability.coefficients.line(5), jax.random.key(0)
        >>> [float(line.sample(i, jnp.ones(3), key=key)) for i in range(5)]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    along = uniform(low, high, granularity="model")
    if points is None:
        return along
    points = check_count("points", points, 2)
    return Distribution(Spaced(float(low), float(high), points), "model")


def simplex(
    n: int,
    concentration: float = 1.0,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients of N networks, not negative and of sum 1: Dirichlet.

    Args:
        n: number of networks, at least 2.
        concentration: above 0; 1 is uniform on the simplex, less is near its vertices,
            more near the mean of all networks.
        granularity: what has coefficients of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        A distribution for `evaluate_many`.

    Raises:
        ValueError: if n is less than 2 or concentration not positive, or as `uniform`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> three = combinability.coefficients.simplex(3)
        >>> drawn = three.sample(0, jnp.ones(4), key=jax.random.key(0))
        >>> drawn.shape, bool(jnp.allclose(drawn.sum(0), 1))
        ((3, 4), True)
    """
    law = Dirichlet(
        check_count("n", n, 2), check_number("concentration", concentration, above=0)
    )
    return Distribution(law, granularity, symmetry)


def check_distribution(distribution: Any, samples: Any) -> None:
    """Check that so many coefficients can be drawn from a distribution.

    Raises:
        TypeError: if it is no distribution, or samples is not an integer.
        ValueError: if samples is less than 1, or not the number of points of a line.
    """
    if not isinstance(distribution, Coefficients):
        raise TypeError(
            "distribution: expected an object with a method `sample`, as uniform() "
            f"returns, got {distribution!r}"
        )
    check_count("samples", samples, 1)
    points = getattr(distribution, "points", None)
    if points not in (None, samples):
        raise ValueError(
            f"samples: expected {points}, the number of points of the line, got "
            f"{samples}"
        )


class Law(abc.ABC):
    """A function from independent numbers u, uniform on [0, 1), to coefficients."""

    # How many uniform numbers a coefficient needs.
    uniforms: ClassVar[int] = 1

    @abc.abstractmethod
    def coefficients(self, u: Float[Array, "uniforms n"], index: Any) -> Array:
        """Return n coefficients of sample `index`; (networks, n) for N networks."""


# Dataclasses, not NamedTuples: two laws with equal parameters are different.


@dataclasses.dataclass(frozen=True)
class Uniform(Law):
    low: float
    high: float

    def coefficients(self, u, index):
        # Never beyond the bounds by rounding.
        return jnp.clip(self.low + (self.high - self.low) * u[0], self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Bernoulli(Law):
    probability: float

    def coefficients(self, u, index):
        return (u[0] < self.probability).astype(u.dtype)


@dataclasses.dataclass(frozen=True)
class Beta(Law):
    alpha: float
    beta: float

    def coefficients(self, u, index):
        return _beta_quantile(self.alpha, self.beta, u[0])


@dataclasses.dataclass(frozen=True)
class Normal(Law):
    mean: float
    scale: float

    def coefficients(self, u, index):
        centred = 2 * u[0] - 1 + jnp.finfo(u.dtype).eps  # inside (-1, 1)
        return self.mean + math.sqrt(2) * self.scale * jax.lax.erf_inv(centred)


@dataclasses.dataclass(frozen=True)
class Spaced(Law):
    low: float
    high: float
    points: int
    uniforms: ClassVar[int] = 0

    def coefficients(self, u, index):
        table = jnp.asarray(np.linspace(self.low, self.high, self.points), u.dtype)
        return jnp.broadcast_to(table[index], u.shape[1:])


@dataclasses.dataclass(frozen=True)
class Dirichlet(Law):
    n: int
    concentration: float

    @property
    def uniforms(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.n - 1

    def coefficients(self, u, index):
        # Stick breaking: each piece is a beta-distributed part of what is left.
        left, pieces = jnp.ones_like(u[0]), []
        for m in range(self.n - 1):
            others = self.concentration * (self.n - 1 - m)
            pieces.append(left * _beta_quantile(self.concentration, others, u[m]))
            left = left - pieces[-1]
        return jnp.stack([*pieces, left])


def _uniform_numbers(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform on [0, 1), as `jax.random.uniform`, in less than half of its time.

    Each hash gives two words, and here both are used. Drawing may take longer than the
    metric of a combination.
    """
    if dtype != jnp.float32:
        return jax.random.uniform(key, shape, dtype)
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32)
    bits = threefry_2x32(jax.random.key_data(key), count).reshape(shape)
    # The words' upper 23 bits, as the fraction of a number in [1, 2).
    fraction = (bits >> 9) | np.float32(1).view(np.uint32)
    return jax.lax.bitcast_convert_type(fraction, jnp.float32) - 1


def _beta_quantile(a: float, b: float, u: Array) -> Array:
    """The quantile function of a beta distribution, linear within each bin.

    The probability of every bin is exact. (Rejection sampling, as in
    `jax.random.beta`, takes much longer to compile and to run.)
    """
    table = jnp.asarray(_beta_table(a, b), u.dtype)
    place = u * _BINS
    left = place.astype(jnp.int32)
    low, high = table[left], table[left + 1]
    return low + (high - low) * (place - left)


@functools.lru_cache
def _beta_table(a: float, b: float) -> np.ndarray:
    return scipy.special.betaincinv(a, b, np.linspace(0, 1, _BINS + 1))
