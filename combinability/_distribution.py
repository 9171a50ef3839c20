"""A distribution: a law for one coefficient, and which parameters share one."""

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from combinability._grains import (
    GRANULARITIES,
    Granularity,
    coefficient_dtype,
    grains,
)
from combinability._keys import Key, check_key
from combinability._laws import Dirichlet, Law, Spaced, uniform_numbers
from combinability.symmetry._symmetry import Symmetry


@runtime_checkable
class Coefficients(Protocol):
    """What `evaluate` draws coefficients from; users may write their own.

    A user's object should also have a `repr` that says what it is, as a frozen
    dataclass has: a run that goes on from a checkpoint is told from another by it.
    """

    def sample(self, key: Key, index: Any, variables: PyTree) -> PyTree:
        """The coefficients of one sample.

        Args:
            key: the same for all samples.
            index: number of the sample; an integer, traced.
            variables: a network, for structure, shapes and dtypes.

        Returns:
            What `combine` takes (or `combine_many`, for `evaluate_many`).
        """
        ...


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A law for one coefficient, and which parameters share one.

    Made by `uniform`, `bernoulli`, `beta`, `normal`, `line` and `simplex`.

    Attributes:
        law: what a coefficient is drawn from.
        granularity: what has a coefficient of its own. `"element"`: each parameter.
            `"neuron"`: each unit of a permutable group. All arrays that produce the
            unit share its coefficient: the column of a kernel, bias, scale and running
            statistics, for an array belongs to the group on the last of its axes that
            carries one. So a last layer, whose outputs cannot move, follows the units
            that it reads. What no group meets has one coefficient an array.
            `"tensor"`: each array. `"module"`: the arrays under one parent path (in a
            Flax variables dictionary, the collections of a module together).
            `"model"`: one for all.
        symmetry: the groups, needed by `"neuron"` alone.
    """

    law: Law
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
                "symmetry: granularity 'neuron' needs the Symmetry that says what the "
                f"neurons are, got {self.symmetry!r}; see infer_symmetry"
            )

    def sample(self, key: Key, index: Any, variables: PyTree) -> PyTree:
        """The coefficients of one sample.

        They depend on key, index and the shapes of the arrays in the tree, and on
        nothing else: not on batch, devices or the samples drawn before.

        Args:
            key: a PRNG key, the same for all samples.
            index: number of the sample, from 0; may be traced.
            variables: a network, for structure, shapes and dtypes.

        Returns:
            A tree like variables whose leaves broadcast to theirs, in the real dtype
            of the widest of them and float32 at least. For `simplex(n)` each leaf has
            a leading axis n. What is not combined (integers, keys) has coefficient 1.

        Raises:
            TypeError: if key is not a PRNG key.
            ValueError: if the variables do not fit the symmetry.

        Example:
            >>> import jax, jax.numpy as jnp, combinability
            >>> variables = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
            >>> distribution = combinability.uniform(-0.5, 1.5, granularity="tensor")
            >>> drawn = distribution.sample(jax.random.key(0), 7, variables)
            >>> drawn["w"].shape, drawn["b"].shape
            ((), ())
        """
        dtype = coefficient_dtype(variables)
        plan = grains(self.granularity, self.symmetry, variables)
        key = jax.random.fold_in(check_key(key), index)
        # All at once: a draw for each array takes much longer to compile.
        sizes = [math.prod(shape) for shape in plan.shapes.values()]
        u = uniform_numbers(key, (self.law.uniforms, sum(sizes)), dtype)
        drawn = self.law.coefficients(u, index)
        parts = jnp.split(drawn, np.cumsum(sizes)[:-1], axis=-1) if sizes else []
        draws = {
            number: part.reshape(*part.shape[:-1], *shape)
            for (number, shape), part in zip(plan.shapes.items(), parts, strict=True)
        }
        return plan.place(draws) if self.models is None else jax.vmap(plan.place)(draws)

    @property
    def models(self) -> int | None:
        """How many networks are combined by `simplex`; None for a pair."""
        return self.law.n if isinstance(self.law, Dirichlet) else None

    @property
    def points(self) -> int | None:
        """How many samples there are, where they are not random: `line(points)`."""
        return self.law.points if isinstance(self.law, Spaced) else None
