"""A fitted affine map of channels, and how well it fits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching._moments import Moments
from stitching.direct._checks import pair_moments


class Fit(NamedTuple):
    r"""An affine map of channels, :math:`x \mapsto x W + b`.

    A tree of arrays; a stack of fits (of several penalties, or from `vmap`) is applied
    by `jax.vmap`.

    Attributes:
        weight: W, one row per input channel.
        bias: b.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> fit = stitching.Fit(jnp.array([[1.0, 0.0], [1.0, 2.0]]), jnp.ones(2))
        >>> fit(jnp.array([[3.0, 4.0]])).tolist()
        [[8.0, 9.0]]
    """

    weight: Float[Array, "p q"]
    bias: Float[Array, " q"]

    def __call__(self, activation: Float[ArrayLike, "*n p"]) -> Float[Array, "*n q"]:
        """Return the map of an activation, channels last.

        Raises:
            ValueError: if the number of channels is another, or the fit is a stack.
        """
        activation = jnp.asarray(activation)
        self.check(activation.shape[-1:], "activation")
        return times(activation, self.weight) + self.bias

    def check(self, channels: tuple[int, ...], name: str) -> None:
        """Raises a ValueError unless this is one fit of so many channels."""
        if self.weight.ndim != 2:
            raise ValueError(
                f"fit: expected one weight of shape (in, out), got "
                f"{self.weight.shape}; apply a stack of fits with jax.vmap"
            )
        expected = self.weight.shape[: len(channels)]
        if channels != expected or not channels:
            raise ValueError(
                f"{name}: expected {expected} channels as the fit has, got {channels}"
            )


def residual(fit: Fit, moments: Moments) -> Float[Array, ""]:
    r"""Return the mean squared error of a fit, over samples and output channels.

    .. math::

        \frac{1}{q}\,\mathbb{E}\,\|y - x W - b\|^2

    Computed from moments alone; those of samples that the fit has not seen give the
    held-out error. Its resolution is that of the moments, about 10⁻⁶ of the
    variance of y in float32.

    Args:
        fit: any map from x to y.
        moments: of the pair (x, y).

    Returns:
        A scalar, not negative, in squared units of y.

    Raises:
        TypeError, ValueError: if the moments are not of a pair with the fit's channels.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> seen = stitching.moments(x, x**2)
        >>> fit = stitching.least_squares(seen)
        >>> round(float(stitching.residual(fit, seen)), 4)
        0.2222
    """
    moments = pair_moments(moments)
    fit.check(moments.xy.shape, "moments")
    explained = times(moments.xx, fit.weight) - 2 * moments.xy
    errors = jnp.diagonal(moments.yy) + (fit.weight * explained).sum(axis=0)
    offset = moments.mean_y - fit(moments.mean_x)
    return (errors.clip(min=0) + offset**2).mean()


def r_squared(fit: Fit, moments: Moments) -> Float[Array, ""]:
    r"""Return the share of the variance of y that a fit explains, over all channels.

    .. math::

        R^2 = 1 - \frac{\mathbb{E}\,\|y - x W - b\|^2}{\mathbb{E}\,\|y - \mu_y\|^2}

    with the mean of the given moments. Held out, it may be negative.

    Args:
        fit: any map from x to y.
        moments: of the pair (x, y); not those of the fit for a held-out value.

    Returns:
        A scalar, at most 1; NaN where y does not vary.

    Raises:
        TypeError, ValueError: as for `residual`.

    Example:
        >>> import jax.numpy as jnp, stitching
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> seen = stitching.moments(x, x**2)
        >>> fit = stitching.least_squares(seen)
        >>> round(float(stitching.r_squared(fit, seen)), 4)
        0.9231
    """
    variance = jnp.diagonal(moments.yy).mean() if isinstance(moments, Moments) else 1
    return 1 - residual(fit, moments) / variance


def with_means(weight: Float[Array, "p q"], moments: Moments) -> Fit:
    """The fit of this weight whose bias maps the mean of x to the mean of y."""
    return Fit(weight, moments.mean_y - times(moments.mean_x, weight))


def times(a: Array, b: Array) -> Array:
    """A matrix product in full precision, on accelerators too."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
