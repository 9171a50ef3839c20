"""Are two networks different, in what they compute and in their weights?"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, PyTree

from combinability._predictions import (
    ErrorOverlap,
    Labels,
    Logits,
    disagreement,
    error_overlap,
    jensen_shannon,
    logits_pair,
)
from combinability._weights import cosine, l2
from stitching.similarity import cka


class Difference(NamedTuple):
    """All that `difference` measures; the first four of the outputs.

    Attributes:
        disagreement: share of the samples with another predicted class.
        jensen_shannon: mean Jensen-Shannon divergence in nats, in [0, ln 2].
        cka: linear CKA of the outputs; NaN where one network's are constant.
        error_overlap: `ErrorOverlap`, or None without labels.
        cosine: cosine of the angle between the weights, seen from the origin.
        l2: Euclidean distance of the weights.
    """

    disagreement: Float[Array, ""]
    jensen_shannon: Float[Array, ""]
    cka: Float[Array, ""]
    error_overlap: ErrorOverlap | None
    cosine: Float[Array, ""]
    l2: Float[Array, ""]


def difference(
    apply: Callable[[PyTree, PyTree], Logits],
    a: PyTree,
    b: PyTree,
    x: PyTree,
    labels: Labels | None = None,
) -> Difference:
    """How much two networks differ, in their outputs on x and in their weights.

    None of the numbers says by itself whether a difference is large. Two networks of
    one architecture and data, trained from different seeds, differ by what training
    leaves to chance: measure such pairs (several, for an interval), and read the
    difference of a combination from its parents, or of two combinations, as a fraction
    of theirs. Weights compare only where the networks are aligned.

    Runs inside `jit` and `vmap`, so over many combinations at once.

    Args:
        apply: apply(variables, x) gives logits (..., classes); each leading index is a
            sample, of which there are at least 2.
        a: variables of a network.
        b: variables of the same structure, shapes and dtypes.
        x: inputs, a tree.
        labels: (...), the right classes; without them there is no error overlap.

    Returns:
        A `Difference`.

    Raises:
        ValueError: if trees, logits or labels do not fit.
        TypeError: if the labels are not integers.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return x @ variables["w"]
        >>> a, b = {"w": jnp.eye(2)}, {"w": jnp.array([[1.0, 0.0], [2.0, 1.0]])}
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> found = combinability.difference(apply, a, b, x, labels=jnp.array([0, 1]))
        >>> float(found.disagreement), float(found.l2)
        (0.5, 2.0)

    References:
        ours, for the paper's question whether combinations are different networks
        (Csiszárik et al., 2023, arXiv 2308.11511).
    """
    weights = cosine(a, b), l2(a, b)
    one, two = logits_pair(apply(a, x), apply(b, x))
    rows = [each.reshape(-1, each.shape[-1]) for each in (one, two)]
    return Difference(
        disagreement=disagreement(one, two),
        jensen_shannon=jensen_shannon(one, two),
        # Compiled, where what is not defined is NaN: a collapsed network is a finding.
        cka=jax.jit(cka)(*rows),
        error_overlap=None if labels is None else error_overlap(one, two, labels),
        cosine=weights[0],
        l2=weights[1],
    )
