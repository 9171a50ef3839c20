"""How much two networks differ, in what they compute and in their weights."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from combinability._combine import check_like, is_combined
from combinability._layers import as_function, square_root
from stitching.similarity import cka

Logits = Float[ArrayLike, "*samples classes"]
Labels = Int[ArrayLike, "*samples"]


class ErrorOverlap(NamedTuple):
    """Overlap of the samples that two networks get wrong.

    Attributes:
        overlap: samples that both get wrong over those that at least one gets wrong.
        by_chance: the overlap of independent errors of the same two rates.
    """

    overlap: Float[Array, ""]
    by_chance: Float[Array, ""]


class Difference(NamedTuple):
    """Differences of two networks, first of outputs, then of weights.

    Two networks are more alike where CKA, overlap and cosine are larger and the other
    numbers smaller.

    Attributes:
        disagreement: share of the samples with different predicted classes.
        jensen_shannon: mean Jensen-Shannon divergence in nats, in [0, ln 2].
        cka: linear CKA of the outputs; NaN where those of one network are constant.
        error_overlap: `ErrorOverlap`, or None without labels.
        cosine: cosine similarity of the weights.
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
    """Return how much two networks differ, in outputs on x and in weights.

    No number says by itself whether a difference is large: read it as a fraction of
    that of networks trained from different seeds (several pairs, for an interval).
    Weights are comparable only where the networks are aligned. Works inside `jit` and
    `vmap`. For the paper's question whether combinations are different networks
    (Csiszárik et al., 2023, arXiv 2308.11511); ours.

    Args:
        apply: apply(variables, x), or a Flax NNX module in evaluation mode, gives
            logits (..., classes); each leading index is a sample, of which there are at
            least 2.
        a, b: variables of the same structure, shapes and dtypes.
        x: inputs, a tree.
        labels: (...), the right classes; without them there is no error overlap.

    Raises:
        ValueError: if trees, logits or labels do not fit.
        TypeError: if the labels are not integers.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> apply = lambda v, x: x @ v["w"]
        >>> a, b = {"w": jnp.eye(2)}, {"w": jnp.array([[1.0, 0.0], [2.0, 1.0]])}
        >>> found = combinability.difference(apply, a, b, jnp.eye(2), jnp.arange(2))
        >>> float(found.disagreement), float(found.l2)
        (0.5, 2.0)
    """
    cosine, l2 = weight_cosine(a, b), weight_distance(a, b)
    function = as_function(apply)
    one, two = _logits_pair(function(a, x), function(b, x))
    rows = [each.reshape(-1, each.shape[-1]) for each in (one, two)]
    return Difference(
        disagreement=disagreement(one, two),
        jensen_shannon=jensen_shannon(one, two),
        # Compiled, where what is not defined is NaN: a collapsed network is a finding.
        cka=jax.jit(cka)(*rows),
        error_overlap=None if labels is None else error_overlap(one, two, labels),
        cosine=cosine,
        l2=l2,
    )


def disagreement(logits_1: Logits, logits_2: Logits) -> Float[Array, ""]:
    """Return the share of samples for which two networks predict different classes.

    The predicted class is the one with the largest logit, the first of equal ones.

    Args:
        logits_1, logits_2: (..., classes), of the same shape.

    Returns:
        A scalar in [0, 1]; NaN if a logit is NaN.

    Raises:
        ValueError: if the shapes differ or there is no sample or class.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> float(combinability.disagreement(logits, logits[:, ::-1] * 5))
        1.0
    """
    one, two = _logits_pair(logits_1, logits_2)
    differ = one.argmax(axis=-1) != two.argmax(axis=-1)
    return _unless_nan(differ.mean(dtype=one.dtype), one, two)


def error_overlap(logits_1: Logits, logits_2: Logits, labels: Labels) -> ErrorOverlap:
    r"""Return the overlap of the samples that two networks get wrong, and by chance.

    .. math::

        J = \frac{|E_1 \cap E_2|}{|E_1 \cup E_2|}, \qquad
        J_0 = \frac{e_1 e_2}{e_1 + e_2 - e_1 e_2}

    with the error rates e. :math:`J_0` is the overlap of independent errors; networks
    of one task have a far larger one, as some samples are hard for all of them.

    Args:
        logits_1, logits_2: (..., classes), of the same shape.
        labels: (...), the right classes.

    Returns:
        `ErrorOverlap`. Where neither network makes an error both numbers are 1, as two
        empty sets are equal. NaN if a logit is NaN.

    Raises:
        ValueError: if the shapes do not fit, or a label (unless traced) is no class.
        TypeError: if the labels are not integers.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> one, two = jnp.eye(2)[jnp.array([[0, 0, 1, 1], [0, 1, 1, 1]])]
        >>> found = combinability.error_overlap(one, two, jnp.zeros(4, int))
        >>> round(float(found.overlap), 3), round(float(found.by_chance), 3)
        (0.667, 0.429)
    """
    one, two = _logits_pair(logits_1, logits_2)
    right = _labels(labels, one)
    wrong_1, wrong_2 = (each.argmax(axis=-1) != right for each in (one, two))
    both = (wrong_1 & wrong_2).mean(dtype=one.dtype)
    rate_1, rate_2 = (wrong.mean(dtype=one.dtype) for wrong in (wrong_1, wrong_2))
    chance = rate_1 * rate_2

    def jaccard(common: Array) -> Array:
        either = rate_1 + rate_2 - common
        share = jnp.where(either > 0, common / jnp.where(either > 0, either, 1), 1)
        return _unless_nan(share, one, two)

    return ErrorOverlap(jaccard(both), jaccard(chance))


def jensen_shannon(logits_1: Logits, logits_2: Logits) -> Float[Array, ""]:
    r"""Return the mean Jensen-Shannon divergence of two predicted distributions.

    .. math::

        \tfrac12 \mathrm{KL}(p \,\|\, m) + \tfrac12 \mathrm{KL}(q \,\|\, m), \qquad
        m = \tfrac12 (p + q)

    with p and q the softmax of the logits, averaged over samples (Lin, 1991).

    Args:
        logits_1, logits_2: (..., classes), of the same shape; −∞ excludes a class.

    Returns:
        A scalar in nats, in [0, ln 2], in at least float32; below 10⁻⁷ it is rounding.

    Raises:
        ValueError: if the shapes differ or there is no sample or class.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> sure = jnp.array([[1000.0, 0.0]])
        >>> round(float(combinability.jensen_shannon(sure, -sure)), 4)
        0.6931
    """
    p, q = (jax.nn.log_softmax(each) for each in _logits_pair(logits_1, logits_2))
    # Where neither has probability, the gradient of a sum of exponentials is NaN.
    seen = jnp.maximum(p, q) > -jnp.inf
    middle = jnp.logaddexp(*(jnp.where(seen, each, 0) for each in (p, q)))
    middle = middle - jnp.log(2).astype(p.dtype)

    def divergence(p: Array) -> Array:
        there = p > -jnp.inf
        ratio = jnp.where(there, p - middle, 0)
        return (jnp.exp(p) * ratio).sum(axis=-1)

    nan = jnp.isnan(p) | jnp.isnan(q)
    value = jnp.where(nan.any(axis=-1), jnp.nan, (divergence(p) + divergence(q)) / 2)
    return value.mean().clip(0)


def weight_cosine(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Return the cosine similarity of two networks' weights.

    All numbers of a tree are one vector; leaves of integers, booleans and keys are left
    out, complex numbers count as two real ones. Pass the parameters only to leave out
    running statistics.

    Args:
        a, b: variables of the same structure, shapes and dtypes.

    Returns:
        A scalar in [−1, 1], in at least float32; NaN if one network is all zeros.

    Raises:
        ValueError: if the trees do not match or hold nothing to compare.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> a, b = jnp.array([1.0, 1.0]), jnp.array([1.0, -1.0])
        >>> float(combinability.weight_cosine(a, b))
        0.0
    """
    pairs = _numbers(a, b)
    inner = sum(jnp.sum(x * y) for x, y in pairs)
    squares = (sum(jnp.sum(x * x) for x in side) for side in zip(*pairs, strict=True))
    norm_a, norm_b = (jnp.sqrt(jnp.asarray(each)) for each in squares)
    return (inner / norm_a / norm_b).clip(-1, 1)


def weight_distance(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Return the Euclidean distance of two networks' weights; see `weight_cosine`.

    Its gradient is 0 where they are equal.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> a, b = {"w": jnp.zeros(4), "step": 3}, {"w": jnp.ones(4), "step": 9}
        >>> float(combinability.weight_distance(a, b))
        2.0
    """
    squares = sum(jnp.sum((x - y) ** 2) for x, y in _numbers(a, b))
    return square_root(jnp.asarray(squares))


def _logits_pair(logits_1: Logits, logits_2: Logits) -> tuple[Array, Array]:
    """Two arrays of logits, in at least float32."""
    one, two = jnp.asarray(logits_1), jnp.asarray(logits_2)
    if one.shape != two.shape:
        raise ValueError(
            f"logits_1 and logits_2: expected the same shape, got {one.shape} and "
            f"{two.shape}"
        )
    if one.ndim < 2 or one.size == 0:
        raise ValueError(
            f"logits_1 and logits_2: expected shape (samples, classes), neither empty, "
            f"got {one.shape}"
        )
    dtype = jnp.promote_types(jnp.promote_types(one.dtype, two.dtype), jnp.float32)
    return one.astype(dtype), two.astype(dtype)


def _labels(labels: Labels, logits: Array) -> Array:
    """Labels that fit the logits."""
    labels, classes = jnp.asarray(labels), logits.shape[-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels: expected integers, got {labels.dtype}; from one-hot labels take "
            f"labels.argmax(-1)"
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels: expected shape {logits.shape[:-1]}, that of the logits without "
            f"classes, got {labels.shape}"
        )
    if not isinstance(labels, Tracer):
        known = np.asarray(labels)
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels: expected classes from 0 to {classes - 1}, got {low} to {high}"
            )
    return labels


def _unless_nan(value: Array, *logits: Array) -> Array:
    """The value, NaN where a logit is."""
    nan = jnp.stack([jnp.isnan(each).any() for each in logits]).any()
    return jnp.where(nan, jnp.nan, value)


def _numbers(a: PyTree, b: PyTree) -> list[tuple[Array, Array]]:
    """The leaves to compare, in at least float32, complex numbers as two real ones."""
    check_like(b, a, "b", "a")

    def real(x: ArrayLike) -> Array:
        x = jnp.asarray(x)
        x = jnp.stack([x.real, x.imag]) if jnp.iscomplexobj(x) else x
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [(real(x), real(y)) for x, y in leaves if is_combined(x) and np.size(x)]
    if not pairs:
        raise ValueError("a and b: expected real or complex numbers, got none")
    return pairs
