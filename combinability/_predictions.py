"""How far two networks predict the same: classes, errors, distributions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

Logits = Float[ArrayLike, "*samples classes"]
Labels = Int[ArrayLike, "*samples"]


class ErrorOverlap(NamedTuple):
    """How far two networks err on the same samples.

    Attributes:
        overlap: samples that both get wrong over samples that any gets wrong.
        by_chance: what independent errors of the same two rates would give.
    """

    overlap: Float[Array, ""]
    by_chance: Float[Array, ""]


def disagreement(logits_1: Logits, logits_2: Logits) -> Float[Array, ""]:
    """The share of samples that two networks put into different classes.

    The predicted class is the one of the highest logit, the first of equal ones. Does
    not depend on how sure the networks are.

    Args:
        logits_1: (..., classes); each leading index is a sample.
        logits_2: of the same shape.

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
    one, two = logits_pair(logits_1, logits_2)
    differ = one.argmax(axis=-1) != two.argmax(axis=-1)
    return _unless_nan(differ.mean(dtype=one.dtype), one, two)


def error_overlap(logits_1: Logits, logits_2: Logits, labels: Labels) -> ErrorOverlap:
    r"""The overlap of the samples that two networks get wrong, and that of chance.

    .. math::

        J = \frac{|E_1 \cap E_2|}{|E_1 \cup E_2|}, \qquad
        J_0 = \frac{e_1 e_2}{e_1 + e_2 - e_1 e_2}

    with the error rates e. :math:`J_0` is what errors would give that strike samples
    independently; networks of one task err together far more than that, as some samples
    are hard for all. So compare with both: `by_chance`, and the overlap of two networks
    trained from different seeds.

    Args:
        logits_1: (..., classes).
        logits_2: of the same shape.
        labels: (...), the right classes.

    Returns:
        `ErrorOverlap`. Where neither network errs both numbers are 1: the two empty
        sets are equal, and could not but be. NaN if a logit is NaN.

    Raises:
        ValueError: if the shapes do not fit, or a label that is not traced is no class.
        TypeError: if the labels are not integers.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> one = jnp.eye(2)[jnp.array([0, 0, 1, 1])]
        >>> two = jnp.eye(2)[jnp.array([0, 1, 1, 1])]
        >>> found = combinability.error_overlap(one, two, jnp.array([0, 0, 0, 0]))
        >>> round(float(found.overlap), 3), round(float(found.by_chance), 3)
        (0.667, 0.429)
    """
    one, two = logits_pair(logits_1, logits_2)
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
    r"""The mean Jensen-Shannon divergence of two networks' predicted distributions.

    .. math::

        \tfrac12 \mathrm{KL}(p \,\|\, m) + \tfrac12 \mathrm{KL}(q \,\|\, m), \qquad
        m = \tfrac12 (p + q)

    with p and q the softmax of the logits, averaged over samples.

    Args:
        logits_1: (..., classes); −∞ excludes a class.
        logits_2: of the same shape.

    Returns:
        A scalar in nats, in [0, ln 2]; at least in float32, where less than 10⁻⁷ is
        rounding.

    Raises:
        ValueError: if the shapes differ or there is no sample or class.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> sure = jnp.array([[1000.0, 0.0]])
        >>> round(float(combinability.jensen_shannon(sure, -sure)), 4)
        0.6931

    References:
        Lin, 1991, "Divergence measures based on the Shannon entropy".
    """
    p, q = (jax.nn.log_softmax(each) for each in logits_pair(logits_1, logits_2))
    middle = jnp.logaddexp(p, q) - jnp.log(2).astype(p.dtype)

    def divergence(p: Array) -> Array:
        there = p > -jnp.inf
        ratio = jnp.where(there, p - middle, 0)
        return (jnp.exp(p) * ratio).sum(axis=-1)

    nan = jnp.isnan(p) | jnp.isnan(q)
    value = jnp.where(nan.any(axis=-1), jnp.nan, (divergence(p) + divergence(q)) / 2)
    return value.mean().clip(0)


def logits_pair(logits_1: Logits, logits_2: Logits) -> tuple[Array, Array]:
    """Two arrays of logits, at least in float32."""
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
