"""Distances between activations up to rotation and scaling."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._moments import Moments, product
from stitching.similarity._samples import (
    CONSTANT,
    Activation,
    Seen,
    Weights,
    defined,
    moments_of,
    pair_or_moments,
)
from stitching.similarity._whitened import Whitened, whitened


def procrustes(
    x: Activation | Moments, y: Activation | None = None, *, weights: Weights = None
) -> Float[Array, ""]:
    r"""Return the Procrustes distance of two activations, centred and of unit norm.

    .. math::

        \min_{Q^\top Q = 1} \|\hat x - \hat y Q\|_F
            = \sqrt{2 - 2 \|\hat x^\top \hat y\|_*}

    A metric: symmetric, with the triangle inequality, 0 only where a rotation, a
    scaling and a translation make the activations equal. The fewer features are padded
    by zeros. Near 0 its resolution is the root of that of the dtype: 10⁻³ in float32.

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.

    Returns:
        A scalar in [0, √2].

    Raises:
        TypeError, ValueError: if arrays do not fit or nothing varies.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity.procrustes(x, 5 - 2 * x[:, ::-1])), 2)
        0.0

    References:
        Ding, Denain and Steinhardt, 2021, arXiv 2108.01661; Williams et al., 2021,
        arXiv 2110.14739.
    """
    return defined("procrustes", _chord(pair_or_moments(x, y, weights)), CONSTANT)


def shape_distance(
    x: Activation | Moments,
    y: Activation | None = None,
    *,
    alpha: float = 1.0,
    weights: Weights = None,
) -> Float[Array, ""]:
    r"""Return the angle between two activations as shapes, partly whitened.

    .. math::

        \arccos \frac{\|\phi(x)^\top \phi(y)\|_*}{\|\phi(x)\|_F \|\phi(y)\|_F}, \qquad
        \phi(x) = C x \left(\alpha 1 + (1 - \alpha) (x^\top C x)^{-1/2}\right)

    with C the centring. A metric for each α. At α = 1 it is the angle whose chord is
    `procrustes`; at α = 0 the shapes are whitened, the cosine is the mean canonical
    correlation where ranks are equal, and invertible linear maps change nothing.
    Between, α weighs deviations summed over samples against 1, so the value depends on
    the units of x and y and on the number of samples: scale them first. Near 0 its
    resolution is the root of that of the dtype: 10⁻³ in float32.

    Invariant to: translation, isotropic scaling, orthogonal maps, feature permutations,
    joint sample permutations. Not to: feature scaling, invertible linear maps. At α = 0
    to these too; strictly between, not to isotropic scaling.

    Args:
        x: (n, p), or the `stitching.Moments` of the pair.
        y: (n, q); None with moments.
        weights: of the samples, (n,): a mask of booleans or 0 and 1, or any numbers at
            least 0; None with moments.
        alpha: α, in [0, 1].

    Returns:
        A scalar in [0, π/2], in radians.

    Raises:
        TypeError, ValueError: if arrays do not fit, nothing varies, or alpha is out of
            range.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import similarity
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity.shape_distance(x, x[:, :1])), 3)
        0.72

    References:
        Williams et al., 2021, arXiv 2110.14739.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")
    pair = pair_or_moments(x, y, weights)
    value = _angle(pair) if alpha == 1 else _angle_partly_whitened(pair, alpha)
    return defined("shape_distance", value, CONSTANT)


@jax.jit
def _chord(seen: Seen) -> Array:
    return jnp.sqrt(2 * (1 - _cosine(seen)))


@jax.jit
def _angle(seen: Seen) -> Array:
    return jnp.arccos(_cosine(seen))


def _cosine(seen: Seen) -> Array:
    """Of the best aligned shapes: a nuclear norm over two Frobenius norms."""
    moments = moments_of(seen)
    scale_x = jnp.sqrt(jnp.trace(moments.xx))
    scale_y = jnp.sqrt(jnp.trace(moments.yy))
    return _nuclear(moments.xy / scale_x / scale_y)


@jax.jit
def _angle_partly_whitened(seen: Seen, alpha: float) -> Array:
    count = seen.count if isinstance(seen, Moments) else len(seen[0])
    pair = whitened(seen)
    left, right = _shape(pair.x, count, alpha), _shape(pair.y, count, alpha)
    return jnp.arccos(_nuclear(product(left, product(pair.cross.T, right))))


def _shape(activation: Whitened, count: Array | int, alpha: float) -> Array:
    """φ(x) as a matrix from the scores of x, up to a rotation; of norm 1.

    With x = scores · F it is α √n (F Fᵀ)^½ + (1 − α).
    """
    axes, deviations, _ = jnp.linalg.svd(activation.factor, full_matrices=False)
    root = product((axes * deviations).T, axes.T)
    shape = alpha * jnp.sqrt(count) * activation.scale * root
    shape = shape + (1 - alpha) * jnp.diag(activation.kept).astype(root.dtype)
    return shape / jnp.linalg.norm(shape)


def _nuclear(matrix: Array) -> Array:
    return jnp.linalg.svdvals(matrix).sum().clip(0, 1)
