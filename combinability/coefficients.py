"""Distributions of coefficients over the hypercube of combinations and around it.

Each function returns a `Distribution`, which says what `granularity` and `symmetry`
mean, and raises a TypeError or ValueError for a parameter that is no number or out of
range. A coefficient of 0 is a, and 1 is b.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, PyTree

from combinability._checks import Key, check_count, check_key, check_number
from combinability._combine import dtype_of, is_combined
from combinability._jaxpr import threefry_2x32
from combinability._layers import layer_path
from combinability.symmetry._indexing import along
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

Granularity = Literal["element", "neuron", "tensor", "module", "model"]
Draws = Mapping[int, Array]

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
            index: number of the sample, from 0; may be traced.
            variables: a network, for structure, shapes and dtypes.
            key: a PRNG key, the same for all samples.

        Returns:
            What `combine` takes (or `combine_many`, for `evaluate_many`).
        """
        ...


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A law for each coefficient, and which parameters share a coefficient.

    Returned by `uniform`, `bernoulli`, `beta`, `normal`, `line` and `simplex`.

    Attributes:
        law: what a coefficient is drawn from: the name of one of these functions.
        parameters: of the law.
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

    law: str
    parameters: tuple[float, ...]
    granularity: Granularity = "element"
    symmetry: Symmetry | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        if self.granularity not in (known := get_args(Granularity)):
            raise ValueError(
                f"granularity: expected one of {', '.join(known)}, got "
                f"{self.granularity!r}"
            )
        if self.granularity == "neuron" and not isinstance(self.symmetry, Symmetry):
            raise ValueError(
                "symmetry: expected a Symmetry for granularity 'neuron', got "
                f"{self.symmetry!r}; see infer_symmetry"
            )

    def sample(self, index: Any, variables: PyTree, *, key: Key) -> PyTree:
        """Return the coefficients of one sample, as `Coefficients.sample`.

        They depend on key, index and the shapes of the arrays in the tree only.

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
        shapes, place = _grains(self.granularity, self.symmetry, variables)
        key = jax.random.fold_in(check_key(key), index)
        # All at once: a draw for each array takes much longer to compile.
        sizes = [math.prod(shape) for shape in shapes.values()]
        count = 0 if self.points else (self.models or 2) - 1
        dtype = _coefficient_dtype(variables)
        u = _uniform_numbers(key, (count, sum(sizes)), dtype)
        drawn = _LAWS[self.law](u, index, *self.parameters)
        parts = jnp.split(drawn, np.cumsum(sizes)[:-1], axis=-1) if sizes else []
        draws = {
            owner: part.reshape(*part.shape[:-1], *shape)
            for (owner, shape), part in zip(shapes.items(), parts, strict=True)
        }
        return place(draws) if self.models is None else jax.vmap(place)(draws)

    @property
    def models(self) -> int | None:
        """How many networks `simplex` combines; None for two networks."""
        return int(self.parameters[0]) if self.law == "simplex" else None

    @property
    def points(self) -> int | None:
        """The number of samples of `line(points)`; None where they are random."""
        return int(self.parameters[2]) if self.law == "line" else None


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients uniform in [low, high].

    Args:
        low: smallest coefficient, below 0 for what is beyond a.
        high: largest coefficient, at least low; above 1 for what is beyond b.
        granularity, symmetry: which parameters share a coefficient.

    Example:
        >>> import combinability
        >>> combinability.uniform(-0.2, 1.2, granularity="module")
        Distribution(law='uniform', parameters=(-0.2, 1.2), granularity='module')
    """
    low, high = check_number("low", low), check_number("high", high)
    if low > high:
        raise ValueError(f"low: expected at most high = {high}, got {low}")
    return Distribution("uniform", (low, high), granularity, symmetry)


def bernoulli(
    probability: float = 0.5,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients that are 1 with a probability, else 0: vertices of the cube.

    Args:
        probability: of 1, that is of b's value, in [0, 1].
        granularity, symmetry: which parameters share a coefficient.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> always_b = combinability.coefficients.bernoulli(1.0)
        >>> always_b.sample(0, jnp.ones(3), key=jax.random.key(0)).tolist()
        [1.0, 1.0, 1.0]
    """
    probability = check_number("probability", probability, 0, 1)
    return Distribution("bernoulli", (probability,), granularity, symmetry)


def beta(
    alpha: float,
    beta: float,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients of density proportional to tᵅ⁻¹(1 − t)ᵝ⁻¹ on [0, 1].

    The mean is α / (α + β). Both parameters below 1: near the vertices; both above 1:
    near the centre. Drawn from a table of quantiles: the probability of each of 16,384
    bins is exact, and the density is uniform within a bin.

    Args:
        alpha, beta: α > 0 and β > 0.
        granularity, symmetry: which parameters share a coefficient.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> near_b = combinability.coefficients.beta(99, 1)
        >>> drawn = near_b.sample(0, jnp.ones(1000), key=jax.random.key(0))
        >>> round(float(drawn.mean()), 2)
        0.99
    """
    law = check_number("alpha", alpha, above=0), check_number("beta", beta, above=0)
    return Distribution("beta", law, granularity, symmetry)


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
        granularity, symmetry: which parameters share a coefficient.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> middle = combinability.coefficients.normal(scale=0.0)
        >>> middle.sample(0, jnp.ones(3), key=jax.random.key(0)).tolist()
        [0.5, 0.5, 0.5]
    """
    law = check_number("mean", mean), check_number("scale", scale, 0)
    return Distribution("normal", law, granularity, symmetry)


def line(
    points: int | None = None, *, low: float = 0.0, high: float = 1.0
) -> Distribution:
    """Return one coefficient for the whole network: linear interpolation from a to b.

    Args:
        points: if given, sample i has the i-th of this many evenly spaced coefficients
            from low to high, both included, and `samples` must be this number. By
            default coefficients are uniform in [low, high].
        low, high: the range of the coefficients, as in `uniform`.

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
    return Distribution("line", (*along.parameters, points), "model")


def simplex(
    n: int,
    concentration: float = 1.0,
    *,
    granularity: Granularity = "element",
    symmetry: Symmetry | None = None,
) -> Distribution:
    """Return coefficients for `evaluate_many`, not negative and of sum 1: Dirichlet.

    Args:
        n: number of networks, at least 2.
        concentration: above 0; 1 is uniform on the simplex, less is near its vertices,
            more near the mean of all networks.
        granularity, symmetry: which parameters share coefficients.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> three = combinability.coefficients.simplex(3)
        >>> drawn = three.sample(0, jnp.ones(4), key=jax.random.key(0))
        >>> drawn.shape, bool(jnp.allclose(drawn.sum(0), 1))
        ((3, 4), True)
    """
    n = check_count("n", n, 2)
    concentration = check_number("concentration", concentration, above=0)
    return Distribution("simplex", (n, concentration), granularity, symmetry)


def _normal(u: Array, index: Any, mean: float, scale: float) -> Array:
    centred = 2 * u[0] - 1 + jnp.finfo(u.dtype).eps  # inside (-1, 1)
    return mean + math.sqrt(2) * scale * jax.lax.erf_inv(centred)


def _line(u: Array, index: Any, low: float, high: float, points: int) -> Array:
    table = jnp.asarray(np.linspace(low, high, points), u.dtype)
    return jnp.broadcast_to(table[index], u.shape[1:])


def _simplex(u: Array, index: Any, n: int, concentration: float) -> Array:
    # Stick breaking: each piece is a beta-distributed part of what is left.
    left, pieces = jnp.ones_like(u[0]), []
    for m in range(n - 1):
        others = concentration * (n - 1 - m)
        pieces.append(left * _beta_quantile(concentration, others, u[m]))
        left = left - pieces[-1]
    return jnp.stack([*pieces, left])


# A law turns independent numbers u, uniform on [0, 1), of shape (count, n), into n
# coefficients of sample `index`, or (networks, n) of them for N networks.
_LAWS: dict[str, Callable[..., Array]] = {
    # Never beyond the bounds by rounding.
    "uniform": lambda u, index, low, high: jnp.clip(
        low + (high - low) * u[0], low, high
    ),
    "bernoulli": lambda u, index, probability: (u[0] < probability).astype(u.dtype),
    "beta": lambda u, index, alpha, beta: _beta_quantile(alpha, beta, u[0]),
    "normal": _normal,
    "line": _line,
    "simplex": _simplex,
}


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


def _coefficient_dtype(variables: PyTree) -> Any:
    """The real dtype of the widest leaf, float32 at least."""
    dtypes = [dtype_of(x) for x in jax.tree.leaves(variables) if is_combined(x)]
    real = [jnp.finfo(dtype).dtype for dtype in dtypes]
    return jax.dtypes.canonicalize_dtype(np.result_type(np.float32, *real))


def _grains(
    granularity: str, symmetry: Symmetry | None, variables: PyTree
) -> tuple[dict[int, tuple[int, ...]], Callable[[Draws], PyTree]]:
    """The independent coefficients of a network, and how they become a tree.

    Returns the shape of each draw, in the order of drawing, by the number of the first
    leaf that has it or, after all leaves, of its group; and a function from the draws
    to a tree like the network whose leaves broadcast to its own. What is not combined
    has 0, that is a's value.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(variables)
    leaves = [leaf for _, leaf in found]
    owners: list[int] = list(range(len(leaves)))
    if granularity == "model":
        owners = [0] * len(leaves)
    elif granularity == "module":
        # A Flax module's parameters and statistics lie in different collections.
        skipped = int(isinstance(variables, Mapping) and "params" in variables)
        paths = [layer_path(path[skipped:]) for path, _ in found]
        modules = [path.rpartition("/")[0] for path in paths]
        owners = [modules.index(module) for module in modules]
    shapes: dict[int, tuple[int, ...]] = {
        owner: np.shape(leaf) if granularity == "element" else ()
        for owner, leaf in zip(owners, leaves, strict=True)
        if is_combined(leaf)
    }
    zero = jnp.zeros((), _coefficient_dtype(variables))

    def by_leaf(draws: Draws) -> PyTree:
        pairs = zip(owners, leaves, strict=True)
        return structure.unflatten(
            [draws[owner] if is_combined(leaf) else zero for owner, leaf in pairs]
        )

    if granularity != "neuron" or symmetry is None:
        return shapes, by_leaf

    # A block belongs to the group on the last of its axes that has one, usually the
    # output axis.
    symmetry.check(variables, "variables")
    units: dict[int, tuple[int, list[int]]] = {}
    for number, block in enumerate(symmetry.blocks):
        labels = [label or "" for label in block.labels]
        axes = [i for i, label in enumerate(labels) if label in symmetry.groups]
        if axes and is_combined(leaves[block.leaf]):
            name = labels[axes[-1]]
            group = symmetry.groups[name]
            owner = len(leaves) + [*symmetry.groups].index(name)
            units[number] = owner, [*map(labels.index, group.within), axes[-1]]
            shapes[owner] = (*group.blocks, group.size)

    def by_unit(draws: Draws) -> PyTree:
        whole = jax.tree.map(
            lambda c, leaf: jnp.broadcast_to(c, jnp.shape(leaf)),
            by_leaf(draws),
            variables,
        )
        parts = symmetry.split(whole)
        for number, (owner, axes) in units.items():
            shape = symmetry.blocks[number].shape
            part = along(draws[owner], axes, len(shape))
            parts[number] = jnp.broadcast_to(part, shape)
        return symmetry.join(parts, whole)

    return shapes, by_unit
