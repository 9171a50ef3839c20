"""Centred kernel alignment."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from stitching._moments import Moments, centre, product
from stitching.similarity._distances import samples, squared_distances
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
    x, _ = centre(samples(x))
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
        if not isinstance(self.threshold, Tracer) and not 0 < self.threshold < jnp.inf:
            raise ValueError(
                f"threshold: expected a positive number, got {self.threshold}"
            )

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
    r"""Return the centred kernel alignment of two activations.

    It is 1 where their kernels are equal.

    .. math::

        \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}}

    with HSIC(K, L) = tr(HKHL), H = I − 11ᵀ/n. For the linear kernel this is ‖Σ_xy‖² /
    (‖Σ_xx‖ ‖Σ_yy‖), so it can be computed from moments, and the feature matrices are
    used where there are many samples, the Gram matrices where there are few.

    For independent Gaussians with p and q features the linear one is near √(pq / ((n +
    p)(n + q))), not 0: with few samples everything looks similar. `debiased` takes the
    unbiased estimates of HSIC, whose ratio is near 0 there; it may be negative, is not
    defined where an estimate of HSIC(K, K) is not positive, and needs the samples.

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair (linear and not debiased).
        y: (n, q); None with moments.
        kernel: `similarity.linear`, `similarity.RBF(threshold)`, or any function from
            samples to a symmetric (n, n) Gram matrix.
        debiased: whether the unbiased estimate of HSIC is used; at least 4 samples.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0 (linear and not debiased); None with moments.

    Returns:
        A scalar, in [0, 1] unless debiased.

    Raises:
        TypeError: for moments where samples are needed, and for complex arrays.
        ValueError: if shapes do not fit, numbers are not finite, or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity.cka(x, 5 - 2 * x[:, ::-1])), 5)
        1.0

    References:
        Kornblith et al., 2019, arXiv 1905.00414. Unbiased estimate: Song et al., 2012,
        "Feature selection via dependence maximization". Its cheap form: ours.
    """
    if isinstance(x, Moments) and (kernel is not linear or debiased):
        raise TypeError(
            "x: expected activations, got Moments, from which only the linear and not "
            "debiased index follows; pass x and y of shape (samples, features)"
        )
    least = 4 if debiased else 2
    if kernel is linear and not debiased:
        given = pair_or_moments(x, y, weights, least)
    else:
        given = pair(x, y, weights, least)
    if kernel is linear:
        value = _linear(given, debiased)
    else:
        value = _of_grams(*(_gram(kernel, each) for each in given), debiased)
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
        return _ratio(_from_moments(moments_of(seen)), debiased)
    x, y = (in_units(each)[0] for each in seen)
    n, p, q = *x.shape, y.shape[1]
    if p * p + p * q + q * q < n * (p + q):
        return _ratio(_from_features(x, y, debiased), debiased)
    return _of_grams(linear(x), linear(y), debiased)


@functools.partial(jax.jit, static_argnames="debiased")
def _of_grams(k: Array, l: Array, debiased: bool) -> Array:  # noqa: E741
    k, l = _centred(k), _centred(l)  # noqa: E741
    hsic = _HSIC((k * l).sum(), (k * k).sum(), (l * l).sum())
    if debiased:
        hsic = _unbiased(hsic, jnp.diagonal(k), jnp.diagonal(l))
    return _ratio(hsic, debiased)


def unbiased_hsic(
    xs: Sequence[Array], ys: Sequence[Array]
) -> tuple[Float[Array, "l m"], Float[Array, " l"], Float[Array, " m"]]:
    """Unbiased HSIC of one batch, times its size.

    Args:
        xs: l activations of the batch, each (n, features).
        ys: m activations of it.

    Returns:
        Those of all pairs, of each x with itself, and of each y with itself.
    """
    k, l = (jnp.stack([linear(each) for each in given]) for given in (xs, ys))  # noqa: E741
    n = k.shape[1]
    if n < 4:
        raise ValueError(f"batches: expected at least 4 samples in each, got {n}")

    def hsic(k: Array, l: Array) -> Array:  # noqa: E741
        return _estimate((k * l).sum(), jnp.diagonal(k), jnp.diagonal(l)) / (n - 3)

    cross = jax.lax.map(lambda k: jax.lax.map(lambda l: hsic(k, l), l), k)  # noqa: E741
    own_x, own_y = (jax.lax.map(lambda k: hsic(k, k), grams) for grams in (k, l))
    return cross, own_x, own_y


def _ratio(hsic: _HSIC, debiased: bool) -> Array:
    value = hsic.xy / (jnp.sqrt(hsic.xx) * jnp.sqrt(hsic.yy))
    return value if debiased else value.clip(0, 1)


def _from_moments(moments: Moments) -> _HSIC:
    """⟨K, L⟩ = ‖Σ_xy‖²."""
    return _HSIC(*((m**2).sum() for m in (moments.xy, moments.xx, moments.yy)))


def _from_features(x: Array, y: Array, debiased: bool) -> _HSIC:
    x, y = _unit(x), _unit(y)
    hsic = _HSIC(*((product(*m) ** 2).sum() for m in ((x, y), (x, x), (y, y))))
    if not debiased:
        return hsic
    return _unbiased(hsic, (x * x).sum(axis=1), (y * y).sum(axis=1))


def _unit(x: Array) -> Array:
    """Centred samples, of Frobenius norm 1."""
    x, _ = centre(x)
    return x / jnp.sqrt((x * x).sum())


def _gram(kernel: Kernel, x: Array) -> Array:
    """The Gram matrix of samples by a user's kernel."""
    n = x.shape[0]
    if not callable(kernel):
        raise TypeError(f"kernel: expected a function of samples, got {kernel!r}")
    gram = jnp.asarray(kernel(x))
    if gram.shape != (n, n):
        raise ValueError(
            f"kernel: expected a function to a Gram matrix of shape {(n, n)}, got one "
            f"to shape {gram.shape}"
        )
    return gram


def _centred(gram: Array) -> Array:
    """HKH, of trace 1."""
    gram, _ = centre(gram)
    gram, _ = centre(gram.T)
    return gram / jnp.trace(gram)


def _unbiased(hsic: _HSIC, d: Array, e: Array) -> _HSIC:
    r"""Up to one common factor, unbiased estimates of the three HSIC.

    They ignore the diagonals of the Gram matrices. For Gram matrices that are centred
    already, whose rows sum to 0, with diagonals d and e, what is left is
    ⟨K, L⟩ − n/(n−2) Σdᵢeᵢ + Σdᵢ Σeᵢ / ((n−1)(n−2)).
    """
    return _HSIC(
        _estimate(hsic.xy, d, e), _estimate(hsic.xx, d, d), _estimate(hsic.yy, e, e)
    )


def _estimate(biased: Array, d: Array, e: Array) -> Array:
    n = d.shape[0]
    outer = d.sum() * e.sum() / ((n - 1) * (n - 2))
    return biased - n / (n - 2) * (d * e).sum() + outer
