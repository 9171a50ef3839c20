"""Inference: from a function and its variables to its symmetry.

1. JAX traces the function into a program (`_jaxpr.py`).
2. The walk labels every axis of every value (`_walk.py`, `rules/`, `_label.py`).
3. The labels of the variables become groups (`_groups.py`).
4. The result is tested on random variables (`_certify.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from combinability._checks import check_function, named_leaves
from combinability._jaxpr import Program, input_types, trace, without_dead_code
from combinability._layers import as_function
from combinability.symmetry import _label
from combinability.symmetry._certify import CertificationError, Trial
from combinability.symmetry._certify import certify as certified
from combinability.symmetry._groups import assemble
from combinability.symmetry._indices import pin_known
from combinability.symmetry._label import Label
from combinability.symmetry._symmetry import Leaf, Symmetry, Trace
from combinability.symmetry._walk import Value, Walk
from combinability.symmetry.rules import RULES

_BY_ROW = "rows sorted by their contents carry them"
_EQUAL = "the first of equal values is taken"
_UNUSED = "unused: for these inputs the function does not depend on them"
_NO_EFFECT = "unused: for these inputs their values have no effect above rounding"


def infer_symmetry(
    apply: Callable[..., Any], variables: Any, *inputs: Any, certify: bool = True
) -> Symmetry:
    """Infer the permutations of units that leave a network's function unchanged.

    They are read off the program that JAX traces: axes that meet in an elementwise
    operation or a product must be permuted alike, what meets an input or an output must
    stay, and what remains free is a group. No layer names or hand-written
    specifications are needed. An operation without a rule pins its axes, so a symmetry
    may be missed but is not invented.

    Args:
        apply: `apply(variables, *inputs)` gives the outputs, any tree; deterministic.
            Or a Flax NNX module, whose variables are `nnx.state(module)`; what a part
            of it lacks is constant.
        variables: the tree of parameters and statistics, arrays or
            `jax.ShapeDtypeStruct`s. Integer and key leaves are never permuted.
        *inputs: example inputs, likewise. The symmetry holds for their shapes; their
            values do not matter.
        certify: whether to test the result in float64 on random variables, which takes
            the time of compiling `apply` and a few evaluations. Without the test a
            group may be reported that has no effect on the outputs.

    Returns:
        The symmetry; `print` shows it as a table.

    Raises:
        CertificationError: if a permutation changes the outputs, or the network cannot
            be evaluated, or has no finite outputs, on random variables.
        ValueError: if `variables` has no leaves.
        TypeError: if a leaf of `variables` or `inputs` is no array.

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
    leaves = _described("variables", variables)
    if not leaves:
        raise ValueError("variables: expected a tree with arrays, got one without")
    given = _described("inputs", inputs)
    program = without_dead_code(trace(as_function(apply), variables, *inputs)[0])
    traced = Trace(program, given)
    walk = Walk(RULES)
    labels = label_program(walk, program, leaves)
    symmetry, labels_of_groups, _ = assemble(walk, labels, leaves, traced)
    if not (certify and symmetry.groups):
        return symmetry
    trial = Trial(leaves, traced, np.random.default_rng(0))
    while symmetry.groups:
        try:
            without_effect = certified(symmetry, variables, trial)
        except CertificationError:
            free = [x for label in walk.followed for x in _label.leaves(label)]
            if all(label.reason for label in free):
                raise
            for label in free:
                _label.pin(label, _EQUAL)
        else:
            if not without_effect:
                break
            for name in without_effect:
                _label.pin(labels_of_groups[name], _NO_EFFECT)
        symmetry, labels_of_groups, _ = assemble(walk, labels, leaves, traced)
    return symmetry


def _described(name: str, tree: Any) -> tuple[Leaf, ...]:
    """Path, shape and dtype of each leaf of a tree."""
    return tuple(
        Leaf(path, jnp.shape(leaf), jnp.result_type(leaf))
        for path, leaf in named_leaves(name, tree, shapes=True)
    )


def label_program(
    walk: Walk, program: Program, leaves: Sequence[Leaf]
) -> list[list[Label]]:
    """Return the labels of a program's variables; the walk keeps its notes."""
    labels = [_leaf_labels(leaf) for leaf in leaves]
    inputs = [
        [_label.variable(size, "an input of the function") for size in each.shape]
        for each in input_types(program)[len(leaves) :]
    ]
    walk.values += [Value(tuple(x), ()) for x in (*labels, *inputs)]
    varying = [False] * len(labels) + [True] * len(inputs)
    results, _ = walk.run(program, [*labels, *inputs], varying)
    for result in results:
        pin_known(result.known)
    for label in (label for result in results for label in result):
        _label.pin(label, "an output of the function")
    for label in (label for of_leaf in labels for label in of_leaf):
        for atom in _label.leaves(label):
            if not atom.used or atom.link:
                _label.pin(atom, _BY_ROW if atom.link else _UNUSED)
    return labels


def _leaf_labels(leaf: Leaf) -> list[Label]:
    inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
    reason = None if inexact else "integers, booleans and keys are never permuted"
    return [_label.variable(size, reason) for size in leaf.shape]
