"""Inference: from a function and its variables to the groups of units that may move."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from combinability._checks import check_function
from combinability._jaxpr import Program, input_types, trace, without_dead_code
from combinability.symmetry import _label
from combinability.symmetry._assemble import assemble
from combinability.symmetry._certify import certify as certified
from combinability.symmetry._label import Label
from combinability.symmetry._symmetry import Leaf, Symmetry, path_name
from combinability.symmetry._walk import Value, Walk
from combinability.symmetry.rules import RULES

_UNUSED = "unused: for these inputs the function does not depend on them"
_NO_EFFECT = "unused: for these inputs their order has no effect on the function"


def infer_symmetry(
    apply: Callable[..., Any], variables: Any, *inputs: Any, certify: bool = True
) -> Symmetry:
    """The permutations of units that leave a network's function as it is.

    They are read off the program that JAX traces: axes that meet in an elementwise
    operation or a product must be permuted alike, what meets an input or an output must
    stay, and what remains free is a group. No layer names or hand-written
    specifications are needed. An operation without a rule pins its axes, so a symmetry
    may be missed but is not invented.

    Args:
        apply: `apply(variables, *inputs)` gives the outputs, any tree; deterministic.
        variables: the tree of parameters and statistics, arrays or
            `jax.ShapeDtypeStruct`s. Integer and key leaves are never permuted.
        *inputs: example inputs, likewise. The symmetry holds for their shapes.
        certify: whether to test the result in float64 on random variables, which takes
            the time of compiling `apply` and a few evaluations.

    Returns:
        The symmetry; `print` shows it as a table.

    Raises:
        CertificationError: if a permutation changes the outputs, or these are not
            finite on random variables.
        ValueError: if `variables` has no leaves.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, combinability
        >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> x = jnp.ones((2, 5))
        >>> variables = model.init(jax.random.key(0), x)
        >>> symmetry = combinability.infer_symmetry(model.apply, variables, x)
        >>> {name: group.size for name, group in symmetry.groups.items()}
        {'layers_0': 8}

    Ours. Permutation symmetry of hidden units: Hecht-Nielsen (1990).
    """
    check_function("apply", apply, "apply(variables, *inputs)")
    found = jax.tree_util.tree_flatten_with_path(variables)[0]
    if not found:
        raise ValueError("variables: expected a tree with arrays, got one without")
    leaves = tuple(
        Leaf(path_name(path), jnp.shape(leaf), jnp.result_type(leaf))
        for path, leaf in found
    )
    program = without_dead_code(trace(apply, variables, *inputs)[0])
    walk = Walk(RULES)
    labels = _label_program(walk, program, leaves)
    shapes = ", ".join(
        f"{jnp.result_type(x).name}{list(jnp.shape(x))}"
        for x in jax.tree.leaves(inputs)
    )
    symmetry = assemble(walk, labels, leaves, program, shapes)
    if not certify:
        return symmetry[0]
    while symmetry[0].groups:
        vacuous = certified(symmetry[0], variables, inputs)
        if not vacuous:
            break
        for name in vacuous:
            _label.pin(symmetry[1][name], _NO_EFFECT)
        symmetry = assemble(walk, labels, leaves, program, shapes)
    return symmetry[0]


def _label_program(
    walk: Walk, program: Program, leaves: Sequence[Leaf]
) -> list[list[Label]]:
    """Labels the variables of a program; the walk keeps its notes."""
    labels = [_leaf_labels(leaf) for leaf in leaves]
    inputs = [
        [_label.variable(size, "an input of the function") for size in each.shape]
        for each in input_types(program)[len(leaves) :]
    ]
    walk.values += [Value(tuple(x), ()) for x in (*labels, *inputs)]
    varying = [False] * len(labels) + [True] * len(inputs)
    results, _ = walk.run(program, [*labels, *inputs], varying)
    for label in (label for result in results for label in result):
        _label.pin(label, "an output of the function")
    for label in (label for of_leaf in labels for label in of_leaf):
        for atom in _label.leaves(label):
            if not atom.used:
                _label.pin(atom, _UNUSED)
    return labels


def _leaf_labels(leaf: Leaf) -> list[Label]:
    inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
    reason = None if inexact else "integers and keys are never permuted"
    return [_label.variable(size, reason) for size in leaf.shape]
