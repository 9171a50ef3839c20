"""Distributions of coefficients over the hypercube of combinations and its vicinity."""

from combinability._checks import check_count, check_fraction, check_number
from combinability._distribution import Distribution
from combinability._grains import Granularity
from combinability._laws import Bernoulli, Beta, Dirichlet, Normal, Spaced, Uniform
from combinability.symmetry._symmetry import Symmetry


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Coefficients uniform in [low, high].

    Args:
        low: least coefficient; below 0 is beyond b.
        high: greatest coefficient, not less than low; above 1 is beyond a.
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
    """Coefficients 1 (a's value) with a probability, else 0 (b's): corners of the cube.

    Args:
        probability: of a's value, in [0, 1].
        granularity: what has a coefficient of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        The distribution.

    Raises:
        ValueError: if the probability is outside [0, 1], or as `uniform`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> key, network = jax.random.key(0), jnp.ones(3)
        >>> drawn = combinability.bernoulli(1.0).sample(key, 0, network)
        >>> drawn.tolist()
        [1.0, 1.0, 1.0]
    """
    probability = check_fraction("probability", probability)
    return Distribution(Bernoulli(probability), granularity, symmetry)


def beta(
    a: float,
    b: float,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Coefficients of density proportional to λᵃ⁻¹(1 − λ)ᵇ⁻¹ on [0, 1].

    Both parameters below 1: near the corners; both above 1: near the centre. Drawn by
    a table of quantiles: exact in probability for each of 16,384 bins, and uniform
    within a bin.

    Args:
        a: a > 0.
        b: b > 0.
        granularity: what has a coefficient of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        The distribution, of mean a / (a + b).

    Raises:
        ValueError: if a or b is not positive, or as `uniform`.

    Example:
        >>> import combinability
        >>> combinability.beta(0.5, 0.5).law
        Beta(a=0.5, b=0.5)
    """
    return Distribution(
        Beta(check_number("a", a, above=0), check_number("b", b, above=0)),
        granularity,
        symmetry,
    )


def normal(
    mean: float = 0.5,
    scale: float = 0.25,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Normal coefficients, inside [0, 1] and outside it.

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
        >>> combinability.normal(scale=0.1).law
        Normal(mean=0.5, scale=0.1)
    """
    mean, scale = check_number("mean", mean), check_number("scale", scale)
    if scale < 0:
        raise ValueError(f"scale: expected a number of at least 0, got {scale}")
    return Distribution(Normal(mean, scale), granularity, symmetry)


def line(
    points: int | None = None, *, low: float = 0.0, high: float = 1.0
) -> Distribution:
    """One coefficient for the whole network: linear interpolation from b to a.

    Args:
        points: if given, sample i is the i-th of so many evenly spaced coefficients
            from low to high, both included; `samples` must be this number. By default
            coefficients are uniform in [low, high].
        low: least coefficient; 0 is b.
        high: greatest coefficient, not less than low; 1 is a.

    Returns:
        The distribution, of granularity "model".

    Raises:
        ValueError: if there are less than 2 points, or as `uniform`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> line, key, network = combinability.line(5), jax.random.key(0), jnp.ones(3)
        >>> [float(line.sample(key, i, network)) for i in range(5)]
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
    """Coefficients of N networks, not negative and of sum 1: Dirichlet.

    Args:
        n: number of networks, at least 2.
        concentration: above 0; 1 is uniform on the simplex, less is near its corners,
            more near the mean of all.
        granularity: what has coefficients of its own; see `Distribution`.
        symmetry: needed by granularity "neuron".

    Returns:
        A distribution for `evaluate_many`.

    Raises:
        ValueError: if n is less than 2 or concentration not positive, or as `uniform`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> drawn = combinability.simplex(3).sample(jax.random.key(0), 0, jnp.ones(4))
        >>> drawn.shape, bool(jnp.allclose(drawn.sum(0), 1))
        ((3, 4), True)
    """
    law = Dirichlet(
        check_count("n", n, 2), check_number("concentration", concentration, above=0)
    )
    return Distribution(law, granularity, symmetry)
