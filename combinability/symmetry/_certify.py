"""Certification: permuted networks are evaluated in float64 and compared."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from combinability._jaxpr import Evaluation, output_types, random_keys
from combinability.symmetry._symmetry import (
    Group,
    Leaf,
    Permutation,
    Symmetry,
    Trace,
    is_key,
)

# Relative changes of the outputs. Permuting all groups may change them by up to the
# first, as rounding. Values have an effect if they change them by more than the second:
# the effect of early layers of a deep saturating network is small, yet above rounding.
_TOLERANCE, _EFFECT = 1e-8, 1e-13
# Random networks in which a group shows no effect before it is said to have none: in a
# narrow ReLU network all units of a group may be 0 by chance.
_DRAWS = 6


class CertificationError(RuntimeError):
    """An inferred symmetry fails its test, or cannot be tested."""


class Fill(NamedTuple):
    """What random arrays are like.

    Attributes:
        integers: drawn from 0, …, integers − 1. Token ids must be small, while lengths
            that mask positions show something only where they are large.
        true: how many booleans are true, as a fraction.
        positive: whether matrices are positive, as variances have to be.
    """

    integers: int
    true: float
    positive: bool


_FILLS = [
    Fill(integers, true, positive)
    for positive in (False, True)
    for integers, true in ((2, 0.5), (4, 1.0), (64, 0.5), (2, 0.0))
]


class Sample(NamedTuple):
    """Random variables and inputs of a kind, flattened, and the outputs for them."""

    fill: Fill
    variables: list[jax.Array]
    inputs: list[jax.Array]
    outputs: list[np.ndarray]


def certify(symmetry: Symmetry, variables: Any, trial: "Trial") -> list[str]:
    """Test an inferred symmetry on random variables and inputs, in float64.

    Every group is permuted at random, once by a cycle through all of its units and once
    by exchanging two neighbours of that cycle, which generate all permutations: the
    outputs must stay, to rounding. Then, for
    each group, the arrays that carry it get new values, one array at a time: for one of
    them the outputs must change, else the group means nothing. Permuting a single array
    would not show that for a set of vectors (a codebook): it is the only array of its
    group, and its order never matters, though its values do.

    Args:
        symmetry: what was inferred.
        variables: a tree of the same structure as the network's; its values are not
            used.
        trial: random networks.

    Returns:
        The groups whose arrays all have values without an effect.

    Raises:
        CertificationError: if the outputs change.
    """
    with jax.enable_x64(True):
        structure = jax.tree.structure(variables)
        found = {
            name: _generators(group, trial.generator)
            for name, group in symmetry.groups.items()
        }
        for number in range(2):
            permutation = {name: each[number] for name, each in found.items()}

            def permuted(
                leaves: list[jax.Array], permutation: Permutation = permutation
            ) -> list[jax.Array]:
                tree = jax.tree.unflatten(structure, leaves)
                return jax.tree.leaves(symmetry.apply(permutation, tree))

            trial.keeps(permuted, f"permuting {', '.join(symmetry.groups)}")
        without_effect = list(symmetry.groups)
        for draw in range(_DRAWS):
            samples = trial.draw() if draw else trial.samples
            without_effect = [
                name
                for name in without_effect
                if not any(
                    change > trial.least_effect
                    for sample in samples
                    for change in _effects(symmetry, name, sample, trial)
                )
            ]
            if not without_effect:
                break
        return without_effect


class Trial:
    """Random variables of a network, and what it computes with them, in float64.

    `evaluate`, `keeps` and `draw` need 64-bit types to be enabled.

    Args:
        leaves: path, shape and dtype of each leaf.
        trace: the program and its inputs.
        generator: of the variables and inputs.

    Attributes:
        samples: random networks, as `draw` gives them.
        tolerance: the largest relative change of the outputs that may be rounding.
        least_effect: the smallest that is an effect.

    Raises:
        CertificationError: if the network cannot be evaluated, or is not finite.
    """

    def __init__(
        self, leaves: Sequence[Leaf], trace: Trace, generator: np.random.Generator
    ):
        self.generator = generator
        self._leaves, self._trace = leaves, trace
        evaluation = Evaluation(wide=True)
        self._compiled = jax.jit(lambda x: evaluation.run(trace.program, x)[0])
        with jax.enable_x64(True):
            self.samples = self.draw()
        # What had to be computed in narrow types differs by their rounding.
        rounding = min(100 * evaluation.rounding, 1e-2)
        self.tolerance = max(_TOLERANCE, rounding)
        self.least_effect = max(_EFFECT, rounding)

    def evaluate(self, leaves: Sequence[jax.Array]) -> list[np.ndarray]:
        """The outputs for some variables and inputs."""
        return [np.asarray(y) for y in self._compiled([*leaves]) if not is_key(y)]

    def keeps(self, change: Callable[[list], list], what: str) -> None:
        """Test that a change of the variables does not change the outputs.

        Raises:
            CertificationError: if it does; says what was done.
        """
        for sample in self.samples:
            changed = [*change(sample.variables), *sample.inputs]
            error = _change(sample.outputs, self.evaluate(changed))
            if error > self.tolerance:
                raise CertificationError(
                    f"{what} changes the outputs by {error:.1e} of their size: a rule "
                    "is wrong; please report the network"
                )

    def draw(self) -> list[Sample]:
        """Random networks with finite outputs; several for integer inputs or outputs.

        Raises:
            CertificationError: if there are none, or they cannot be evaluated.
        """
        leaves, inputs = self._leaves, self._trace.inputs
        types = [*leaves, *inputs, *output_types(self._trace.program)]
        discrete = not all(
            jnp.issubdtype(x.dtype, jnp.inexact) or is_key(x) for x in types
        )
        samples: list[Sample] = []
        for fill in _FILLS:
            if samples and (not discrete or fill.positive):
                break
            drawn = [_draw(x, fill, self.generator, scaled=True) for x in leaves]
            given = [_draw(x, fill, self.generator, scaled=False) for x in inputs]
            try:
                outputs = self.evaluate([*drawn, *given])
            except Exception as error:
                reason = f"{error}".strip().splitlines()[:1] or [""]
                raise CertificationError(
                    "the network could not be evaluated on random variables in float64 "
                    f"({type(error).__name__}: {reason[0]}); certify=False gives the "
                    "symmetry as it was read off the program, without this test"
                ) from error
            if all(map(_usable, outputs)):
                samples.append(Sample(fill, drawn, given, outputs))
        if not samples:
            raise CertificationError(
                "the network's outputs on random variables are not finite, so its "
                "symmetry cannot be tested; certify=False gives it as it was read off "
                "the program, without this test"
            )
        return samples


def _draw(
    leaf: Leaf, fill: Fill, generator: np.random.Generator, scaled: bool
) -> jax.Array:
    """A random array in place of a leaf, floats as float64.

    If scaled, vectors are drawn positive, since they may be scales and variances, and
    other arrays are divided by the root of their fan-in.
    """
    shape, dtype = leaf.shape, leaf.dtype
    if is_key(leaf):
        return random_keys(leaf, int(generator.integers(2**31)))
    if jnp.issubdtype(dtype, jnp.bool_):
        return jnp.asarray(generator.random(shape) < fill.true)
    if not jnp.issubdtype(dtype, jnp.inexact):
        largest = min(fill.integers, int(jnp.iinfo(dtype).max))
        return jnp.asarray(generator.integers(0, largest, shape)).astype(dtype)
    values = generator.normal(size=shape)
    if scaled and (len(shape) <= 1 or fill.positive):
        values = np.exp(0.5 * values)
    if scaled and len(shape) > 1:
        values = values / np.sqrt(np.prod(shape[:-1]))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        values = values * np.exp(1j * generator.normal(size=shape))
    return jnp.asarray(values)


def _generators(
    group: Group, generator: np.random.Generator
) -> tuple[jax.Array, jax.Array]:
    """A random cycle through all units, and the exchange of two neighbours in it."""
    rows = np.broadcast_to(np.arange(group.size), (*group.blocks, group.size))
    order = generator.permuted(rows, axis=-1)
    cycle, exchange = np.empty_like(order), np.array(rows)
    np.put_along_axis(cycle, order, np.roll(order, 1, axis=-1), axis=-1)
    np.put_along_axis(exchange, order[..., :2], order[..., 1::-1], axis=-1)
    return jnp.asarray(cycle), jnp.asarray(exchange)


def _effects(
    symmetry: Symmetry, name: str, sample: Sample, trial: Trial
) -> Iterator[float]:
    """How much the outputs change as a block with a group gets new values, for each."""
    for block in symmetry.blocks:
        if name in block.labels:
            leaf, leaves = symmetry.leaves[block.leaf], list(sample.variables)
            drawn = _draw(leaf, sample.fill, trial.generator, scaled=True)
            leaves[block.leaf] = block.put(leaves[block.leaf], block.take(drawn))
            yield _change(sample.outputs, trial.evaluate([*leaves, *sample.inputs]))


def _change(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest entry of the same output.

    It is infinite where the second has a NaN; the first has none.
    """
    changes = [0.0]
    for x, y in zip(first, second, strict=True):
        x, y = x.astype(complex), y.astype(complex)
        differs = x != y
        if differs.any():
            size = np.max(np.abs(x), initial=1e-30, where=np.isfinite(x))
            largest = np.max(np.abs(x[differs] - y[differs]))
            changes.append(math.inf if np.isnan(largest) else float(largest / size))
    return max(changes)


def _usable(output: np.ndarray) -> bool:
    """Whether an output has no NaN, and anything finite (a mask may be infinite)."""
    values = output.astype(complex)
    return not np.isnan(values).any() and bool(
        np.isfinite(values).any() or not values.size
    )
