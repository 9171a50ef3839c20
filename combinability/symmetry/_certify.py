"""Certification: permuted networks are evaluated in float64 and compared."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from combinability._jaxpr import Evaluation, output_types, random_keys
from combinability.symmetry._symmetry import Group, Leaf, Symmetry, Trace, is_key

_TOLERANCE = 1e-8
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
    """Random variables and inputs, flattened, and the outputs for them."""

    variables: list[jax.Array]
    inputs: list[jax.Array]
    outputs: list[np.ndarray]


def certify(
    symmetry: Symmetry, variables: Any, trace: Trace, seed: int = 0
) -> list[str]:
    """Test an inferred symmetry on random variables and inputs, in float64.

    Every group is permuted at random: the outputs must stay, to rounding. Then each
    group is permuted in one leaf alone: the outputs must change, else the permutation
    means nothing. No value of the user's is used, only shapes and dtypes.

    Args:
        symmetry: what was inferred.
        variables: a tree of the same structure as the network's.
        trace: the program and its inputs.
        seed: of the random variables, inputs and permutations.

    Returns:
        The groups that may be permuted in any one leaf without an effect.

    Raises:
        CertificationError: if the outputs are not finite or change, or the program
            cannot be evaluated.
    """
    generator = np.random.default_rng(seed)
    with jax.enable_x64(True):
        structure = jax.tree.structure(variables)
        permutation = {
            name: _shuffled(group, generator) for name, group in symmetry.groups.items()
        }
        tested = Trial(symmetry.leaves, trace, generator)
        samples, evaluate, tolerance = tested.samples, tested.evaluate, tested.tolerance

        def permuted(leaves: list[jax.Array]) -> list[jax.Array]:
            tree = jax.tree.unflatten(structure, leaves)
            return jax.tree.leaves(symmetry.apply(permutation, tree))

        tested.keeps(permuted, f"permuting {', '.join(symmetry.groups)}")
        without_effect = list(symmetry.groups)
        for _ in range(_DRAWS):
            without_effect = [
                name
                for name in without_effect
                if not any(
                    change > tolerance
                    for sample in samples
                    for change in _effects(symmetry, name, structure, sample, evaluate)
                )
            ]
            if not without_effect:
                break
            samples = _samples(symmetry.leaves, trace, evaluate, generator)
        return without_effect


class Trial:
    """Random variables of a network, and what it computes with them, in float64.

    Args:
        leaves: path, shape and dtype of each leaf.
        trace: the program and its inputs.
        generator: of the variables and inputs.

    Raises:
        CertificationError: if the network cannot be evaluated, or is not finite.
    """

    def __init__(
        self, leaves: Sequence[Leaf], trace: Trace, generator: np.random.Generator
    ):
        evaluation = Evaluation(wide=True)
        self._compiled = jax.jit(lambda x: evaluation.run(trace.program, x)[0])
        self.samples = _samples(leaves, trace, self.evaluate, generator)
        # What had to be computed in narrow types differs by their rounding.
        self.tolerance = max(_TOLERANCE, min(100 * evaluation.rounding, 1e-2))

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


def _samples(
    leaves: Sequence[Leaf],
    trace: Trace,
    evaluate: Callable[[Sequence[jax.Array]], list[np.ndarray]],
    generator: np.random.Generator,
) -> list[Sample]:
    """Random networks with finite outputs; several where integers go in or come out."""
    types = [*leaves, *trace.inputs, *output_types(trace.program)]
    discrete = not all(jnp.issubdtype(x.dtype, jnp.inexact) or is_key(x) for x in types)
    samples: list[Sample] = []
    for fill in _FILLS:
        if samples and (not discrete or fill.positive):
            break
        drawn = [_draw(leaf, fill, generator, scaled=True) for leaf in leaves]
        given = [_draw(leaf, fill, generator, scaled=False) for leaf in trace.inputs]
        try:
            outputs = evaluate([*drawn, *given])
        except Exception as error:
            reason = f"{error}".strip().splitlines()[:1] or [""]
            raise CertificationError(
                "the network could not be evaluated on random variables in float64 "
                f"({type(error).__name__}: {reason[0]}); certify=False gives the "
                "symmetry as it was read off the program, without this test"
            ) from error
        if all(map(_usable, outputs)):
            samples.append(Sample(drawn, given, outputs))
    if not samples:
        raise CertificationError(
            "the network's outputs on random variables are not finite, so its symmetry "
            "cannot be tested; certify=False gives it as it was read off the program, "
            "without this test"
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


def _shuffled(group: Group, generator: np.random.Generator) -> jax.Array:
    rows = np.broadcast_to(np.arange(group.size), (*group.blocks, group.size))
    return jnp.asarray(generator.permuted(rows, axis=-1))


def _effects(symmetry, name, structure, sample: Sample, evaluate):
    """How much the outputs change as a group is permuted in one block, for each."""
    shift = jnp.roll(jnp.arange(symmetry.groups[name].size), 1)
    tree = jax.tree.unflatten(structure, sample.variables)
    for number, block in enumerate(symmetry.blocks):
        for axis in block.positions(name):
            parts = symmetry.split(tree)
            parts[number] = jnp.take(parts[number], shift, axis=axis)
            leaves = jax.tree.leaves(symmetry.join(parts, tree))
            yield _change(sample.outputs, evaluate([*leaves, *sample.inputs]))


def _change(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest entry of the same output."""
    changes = [0.0]
    for x, y in zip(first, second, strict=True):
        x, y = x.astype(complex), y.astype(complex)
        differs = x != y
        if differs.any():
            size = np.max(np.abs(x), initial=1e-30, where=np.isfinite(x))
            changes.append(float(np.max(np.abs(x[differs] - y[differs])) / size))
    return max(changes)


def _usable(output: np.ndarray) -> bool:
    """Whether an output has no NaN, and anything finite (a mask may be infinite)."""
    values = output.astype(complex)
    return not np.isnan(values).any() and bool(
        np.isfinite(values).any() or not values.size
    )
