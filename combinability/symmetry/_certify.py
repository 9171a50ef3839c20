"""Certification: permuted networks are evaluated in float64 and compared."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from combinability.symmetry._interpret import Interpreter
from combinability.symmetry._symmetry import Group, Symmetry, is_key

_TOLERANCE = 1e-8


class CertificationError(RuntimeError):
    """A permutation that was inferred to leave the function as it is changes it."""


def certify(
    symmetry: Symmetry, variables: Any, inputs: Any, seed: int = 0
) -> list[str]:
    """Tests an inferred symmetry on random variables, in float64.

    Every group is permuted at random: the outputs must stay, to rounding. Then each
    group is permuted in one leaf alone: the outputs must change, else the permutation
    means nothing.

    Args:
        symmetry: what was inferred, with its trace.
        variables: variables of the right shapes; integers are used as they are.
        inputs: inputs of the right shapes, as a tuple; likewise.
        seed: of the random variables, inputs and permutations.

    Returns:
        The groups that may be permuted in any one leaf without an effect.

    Raises:
        CertificationError: if the outputs are not finite or change.
    """
    if symmetry.trace is None:
        raise ValueError("symmetry: expected one from infer_symmetry, with its trace")
    program = symmetry.trace.program
    generator = np.random.default_rng(seed)
    with jax.enable_x64(True):
        evaluate = jax.jit(
            lambda leaves: Interpreter(raised=True).run(program, leaves)[0]
        )
        drawn = [draw(leaf, generator) for leaf in jax.tree.leaves(variables)]
        given = [
            draw(leaf, generator, centred=True) for leaf in jax.tree.leaves(inputs)
        ]
        reference = _outputs(evaluate([*drawn, *given]))
        _refuse_non_finite(reference)
        tree = jax.tree.unflatten(jax.tree.structure(variables), drawn)
        permutation = {
            name: _shuffled(group, generator) for name, group in symmetry.groups.items()
        }
        moved = jax.tree.leaves(symmetry.apply(permutation, tree))
        error = _change(reference, _outputs(evaluate([*moved, *given])))
        if error > _TOLERANCE:
            raise CertificationError(
                f"permuting {', '.join(symmetry.groups)} changes the outputs by "
                f"{error:.1e} of their size: a rule is wrong; please report the network"
            )
        return [
            name
            for name in symmetry.groups
            if not _has_effect(symmetry, name, tree, given, evaluate, reference, seed)
        ]


def _shuffled(group: Group, generator: np.random.Generator) -> jax.Array:
    rows = np.broadcast_to(np.arange(group.size), (*group.blocks, group.size))
    return jnp.asarray(generator.permuted(rows, axis=-1))


def _has_effect(symmetry, name, tree, given, evaluate, reference, seed: int) -> bool:
    """Whether the outputs change when a group is permuted in one block alone."""
    shift = jnp.roll(jnp.arange(symmetry.groups[name].size), 1)
    for number, block in enumerate(symmetry.blocks):
        for axis in block.positions(name):
            parts = symmetry.split(tree)
            parts[number] = jnp.take(parts[number], shift, axis=axis)
            leaves = jax.tree.leaves(symmetry.join(parts, tree))
            outputs = _outputs(evaluate([*leaves, *given]))
            if _change(reference, outputs) > _TOLERANCE:
                return True
    return False


def draw(leaf: Any, generator: np.random.Generator, centred: bool = False) -> Any:
    """A random array in place of a leaf: float64, or the leaf itself if not a float.

    Vectors, and whatever is nowhere negative, are drawn positive, since they may be
    scales and variances; other arrays are scaled by their fan-in.
    """
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(leaf)
    shape = leaf.shape
    values = generator.normal(size=shape)
    if centred:
        return jnp.asarray(values)
    if len(shape) <= 1 or _nowhere_negative(leaf):
        return jnp.asarray(np.exp(0.5 * values))
    return jnp.asarray(values / np.sqrt(np.prod(shape[:-1])))


def _nowhere_negative(leaf: Any) -> bool:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return False
    return bool(jnp.all(leaf >= 0)) and bool(jnp.any(leaf > 0))


def _outputs(results: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(r) for r in results if not is_key(r)]


def _change(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest entry of the same output."""
    changes = [0.0]
    for x, y in zip(first, second, strict=True):
        if x.size:
            difference = np.max(np.abs(x.astype(complex) - y.astype(complex)))
            changes.append(float(difference / max(np.max(np.abs(x)), 1e-30)))
    return max(changes)


def _refuse_non_finite(outputs: Sequence[np.ndarray]) -> None:
    if not all(np.all(np.isfinite(x)) for x in outputs):
        raise CertificationError(
            "the network's outputs on random variables are not finite, so its symmetry "
            "cannot be certified; infer with certify=False to have it uncertified"
        )
