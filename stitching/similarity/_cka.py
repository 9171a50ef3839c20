"""Centred kernel alignment."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._checks import positive, real
from stitching._linear import centre, product
from stitching._moments import Moments
from stitching.similarity._distances import (
    samples,
    square_of_samples,
    squared_distances,
)
from stitching.similarity._samples import (
    CONSTANT,
    Activation,
    Seen,
    Weights,
    defined,
    in_units,
    moments_of,
    pair,
    pair_or_moments,
)

Kernel = Callable[[Float[Array, "n p"]], Float[Array, "n n"]]
WHY = (
    CONSTANT + ", or (RBF) more than half of all distances are 0, or (debiased) there "
    "are too few samples"
)


def linear(x: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """The linear kernel ⟨xᵢ − x̄, xⱼ − x̄⟩."""
    x = centre(samples(x))[0]
    return product(x.T, x.T)


@dataclasses.dataclass(frozen=True)
class RBF:
    r"""The Gaussian kernel, with a width relative to the distances in the data.

    .. math::

        K_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 t^2 m}\right)

    with m the median of all n² squared distances.

    Args:
        threshold: t, the width as a fraction of the median distance, above 0.

    Raises:
        ValueError: if the threshold is not positive and finite.

    Example:
        >>> from stitching import similarity
        >>> similarity.RBF(0.5)
        RBF(threshold=0.5)

    References:
        Kornblith et al., 2019, arXiv 1905.00414, section 4 (threshold 0.2 to 0.8).
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        positive("threshold", self.threshold)

    def __call__(self, x: Float[Array, "n p"]) -> Float[Array, "n n"]:
        """The Gram matrix of samples."""
        return _gaussian(samples(x), self.threshold)


@jax.jit
def _gaussian(x: Array, threshold: float) -> Array:
    distances, _ = squared_distances(x)
    return jnp.exp(-distances / (2 * threshold**2 * jnp.median(distances)))


def cka(
    x: Activation | Moments,
    y: Activation | None = None,
    *,
    kernel: Kernel = linear,
    debiased: bool = False,
    weights: Weights = None,
) -> Float[Array, ""]:
    r"""Return the centred kernel alignment of two activations, 1 for equal kernels.

    .. math::

        \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}}

    with HSIC(K, L) = tr(HKHL), H = I − 11ᵀ/n. For the linear kernel this is ‖Σ_xy‖² /
    (‖Σ_xx‖ ‖Σ_yy‖), so it can be computed from moments, and the feature matrices are
    used where there are many samples, the Gram matrices where there are few.

    For independent Gaussians with p and q features the linear one is near √(pq / ((n +
    p)(n + q))), not 0: with few samples everything looks similar. The ratio of
    `debiased` estimates of HSIC is near 0 there; it may be negative, and is not defined
    where an estimate of HSIC(K, K) is not positive.

    Args:
        x, y: (n, p) and (n, q); or x alone, the `stitching.Moments` of the pair (linear
            and not debiased).
        kernel: `similarity.linear`, `similarity.RBF(threshold)`, or any function from
            samples to a symmetric (n, n) Gram matrix.
        debiased: whether the unbiased estimate of HSIC is used; at least 4 samples.
        weights: of the samples, (n,), at least 0; a mask leaves samples out. Numbers
            other than 0 and 1: linear and not debiased.

    Returns:
        A scalar, in [0, 1] unless debiased.

    Raises:
        TypeError, ValueError: if arrays do not fit, nothing varies, or for moments
            where samples are needed.

    Example:
        >>> import numpy as np, stitching
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(stitching.similarity.cka(x, 5 - 2 * x[:, ::-1])), 5)
        1.0

    References:
        Kornblith et al., 2019, arXiv 1905.00414. Unbiased estimate: Song et al., 2012,
        "Feature selection via dependence maximization". Its cheap form: ours.
    """
    from_moments = kernel is linear and not debiased
    if isinstance(x, Moments) and not from_moments:
        raise TypeError(
            "x: expected activations, got Moments, from which only the linear and not "
            "debiased index follows; pass x and y of shape (samples, features)"
        )
    if from_moments:
        value = _linear(pair_or_moments(x, y, weights), debiased)
    else:
        x, y = pair(x, y, weights, 4 if debiased else 2)
        if kernel is linear:
            value = _linear((x, y), debiased)
        else:
            grams = (square_of_samples("kernel", kernel, each) for each in (x, y))
            value = _of_grams(*grams, debiased)
    return defined("cka", value, WHY)


class _HSIC(NamedTuple):
    """The three criteria, up to factors that cancel in their ratio."""

    xy: Float[Array, ""]
    xx: Float[Array, ""]
    yy: Float[Array, ""]


@functools.partial(jax.jit, static_argnames="debiased")
def _linear(seen: Seen, debiased: bool) -> Array:
    """From moments, by features or by Gram matrices, whichever is less work."""
    if isinstance(seen, Moments):
        seen = moments_of(seen)
        hsic = _HSIC(*((m**2).sum() for m in (seen.xy, seen.xx, seen.yy)))
        return _ratio(hsic, debiased)
    x, y = (in_units(each)[0] for each in seen)
    n, p, q = *x.shape, y.shape[1]
    if p * p + p * q + q * q >= n * (p + q):
        return _of_grams(linear(x), linear(y), debiased)
    x, y = (centre(each)[0] for each in (x, y))
    x, y = (each / jnp.sqrt((each * each).sum()) for each in (x, y))
    hsic = _HSIC(*((product(*m) ** 2).sum() for m in ((x, y), (x, x), (y, y))))
    if debiased:
        hsic = _unbiased(hsic, (x * x).sum(axis=1), (y * y).sum(axis=1))
    return _ratio(hsic, debiased)


@functools.partial(jax.jit, static_argnames="debiased")
def _of_grams(k: Array, l: Array, debiased: bool) -> Array:  # noqa: E741
    k, l = _centred(k), _centred(l)  # noqa: E741
    hsic = _HSIC((k * l).sum(), (k * k).sum(), (l * l).sum())
    if debiased:
        hsic = _unbiased(hsic, jnp.diagonal(k), jnp.diagonal(l))
    return _ratio(hsic, debiased)


def _centred(gram: Array) -> Array:
    """HKH, of trace 1."""
    gram = centre(centre(gram)[0].T)[0]
    return gram / jnp.trace(gram)


def _ratio(hsic: _HSIC, debiased: bool) -> Array:
    value = hsic.xy / (jnp.sqrt(hsic.xx) * jnp.sqrt(hsic.yy))
    return value if debiased else value.clip(0, 1)


def _unbiased(hsic: _HSIC, d: Array, e: Array) -> _HSIC:
    return _HSIC(
        _estimate(hsic.xy, d, e), _estimate(hsic.xx, d, d), _estimate(hsic.yy, e, e)
    )


def _estimate(biased: Array, d: Array, e: Array) -> Array:
    r"""An unbiased estimate of HSIC, up to a factor that depends on n alone.

    It ignores the diagonals of the Gram matrices. For Gram matrices that are centred
    already, whose rows sum to 0, with diagonals d and e, what is left is
    ⟨K, L⟩ − n/(n−2) Σdᵢeᵢ + Σdᵢ Σeᵢ / ((n−1)(n−2)).
    """
    n = d.shape[0]
    outer = d.sum() * e.sum() / ((n - 1) * (n - 2))
    return biased - n / (n - 2) * (d * e).sum() + outer


def unbiased_hsic(
    xs: Sequence[Array], ys: Sequence[Array]
) -> tuple[Float[Array, "l m"], Float[Array, " l"], Float[Array, " m"]]:
    """Return the unbiased HSIC of one batch, times its size.

    Args:
        xs: l activations of the batch, each (n, features).
        ys: m activations of it.

    Returns:
        Those of all pairs, of each x with itself, and of each y with itself.
    """
    # Sums over many batches would stagnate in 16 bits.
    k, l = (  # noqa: E741
        jnp.stack([linear(real("view", each)) for each in given]) for given in (xs, ys)
    )
    n = k.shape[1]
    if n < 4:
        raise ValueError(f"batches: expected at least 4 samples in each, got {n}")

    def hsic(k: Array, l: Array) -> Array:  # noqa: E741
        return _estimate((k * l).sum(), jnp.diagonal(k), jnp.diagonal(l)) / (n - 3)

    cross = jax.lax.map(lambda k: jax.lax.map(lambda l: hsic(k, l), l), k)  # noqa: E741
    own_x, own_y = (jax.lax.map(lambda k: hsic(k, k), grams) for grams in (k, l))
    return cross, own_x, own_y
