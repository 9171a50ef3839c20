"""How the correction M⁺g is solved for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

Scalar = float | Array
ABOVE_0, AT_LEAST_0 = "a finite number above 0", "a finite number, at least 0"


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    r"""Solves for the correction with a ridge in the metric of the memory (ours).

    For linear memory, with :math:`G = M^\top M`, :math:`u = M^\top g`, Gramian P and
    resonance H (the largest :math:`\mathrm{tr}(P^{-1}G)/\|g\|^2` that stationary
    gradients can cause):

    .. math::

        \bigl(G + \rho\,(H \|g\|^2 + \mathrm{tr}(P^{-1}G))\, P\bigr)\, x = u

    This is covariant under a change of basis at every rank of M, does not change with
    the scale of the loss, and bounds the correction. For other memories, where there
    is no P, each unit is its own scale:

    .. math::

        \bigl(G + \rho\, k\, \mathrm{diag}(G)\bigr)\, x = \frac{\|M L_0\|}{\|g\|}\, u

    Args:
        ridge: ρ > 0, relative to the largest possible Gram matrix; by default 1e-4 for
            linear memory and 0.1 for others. That keeps the float32 correction within
            5 % of the float64 one at signal-to-noise ratios from 0.01 to 1000, where
            values a hundred times smaller do not. A number, possibly traced.

    Raises:
        ValueError: if a concrete ridge is not positive and finite.

    Example:
        >>> import rllc
        >>> law = rllc.LearningLaw(solver=rllc.Ridge(1e-3))

    References:
        ours.
    """

    ridge: Scalar | None = None

    def __post_init__(self):
        if self.ridge is not None:
            check_scalar("ridge", self.ridge, lambda ridge: ridge > 0, ABOVE_0)

    def relative(self, linear: bool) -> Scalar:
        """ρ for a memory that is linear or not."""
        if self.ridge is not None:
            return self.ridge
        return 1e-4 if linear else 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class PseudoInverse:
    r"""The Moore-Penrose correction :math:`M^+ g`, the paper's.

    Computed as :math:`(M^\top M)^+ M^\top g`. Eigenvalues of the Gram matrix below
    ``rcond`` times the largest count as zero. The result depends on the basis while M
    is rank-deficient, and on rounding where it nearly is; so the units are stored in at
    least float32.

    Args:
        rcond: the cut, relative; by default k times the rounding unit.

    Raises:
        ValueError: if rcond is negative or not finite.

    Example:
        >>> import rllc
        >>> law = rllc.LearningLaw(solver=rllc.PseudoInverse(), conserve_gain=False)

    References:
        Szegedy et al., 2024 (arXiv 2402.15262), retrospective learning law correction.
    """

    rcond: Scalar | None = None

    def __post_init__(self):
        if self.rcond is not None:
            check_scalar("rcond", self.rcond, lambda cut: cut >= 0, AT_LEAST_0)


def check_scalar(
    name: str, value: Any, valid: Callable[[float], bool], wanted: str
) -> None:
    """Raise for concrete numbers that are not finite or not valid; tracers pass.

    Args:
        name: what the argument is called.
        value: the value given.
        valid: whether a finite number is valid.
        wanted: description of a valid value, for the error.

    Raises:
        ValueError: if the value is not valid.
    """
    if isinstance(value, Tracer):
        return
    array = np.asarray(value)
    real = any(jnp.issubdtype(array.dtype, k) for k in (jnp.floating, jnp.integer))
    if array.ndim or not real or not np.isfinite(array) or not valid(float(array)):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
