"""What a linear memory holds of white noise and of constant gradients."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

# Gramians whose correlation form is closer to singular than this are rounding noise.
_SINGULAR = 1e-13


class Spectrum(NamedTuple):
    r"""The fixed numbers of a stable, controllable linear memory (A, b).

    Attributes:
        gramian: P with P = AᵀPA + bbᵀ, the Gram matrix of the units under white
            gradients of unit length.
        whitening: Q with QᵀPQ = I. The units MQ are uncorrelated under white gradients.
        gain: γ with γᵀ = bᵀ(I − A)⁻¹: a constant gradient g fills the units with gγᵀ,
            so γᵀL is the effective learning rate of the law L.
        resonance: H = Σᵢ (1 + |λᵢ|)/(1 − |λᵢ|) over the eigenvalues of A: no stationary
            sequence of gradients of unit length makes tr(P⁻¹MᵀM) larger. Constant
            gradients reach it where the eigenvalues are real and positive.
    """

    gramian: Float[np.ndarray, "k k"]
    whitening: Float[np.ndarray, "k k"]
    gain: Float[np.ndarray, " k"]
    resonance: float


def spectrum(propagator: np.ndarray, input: np.ndarray) -> Spectrum:
    """Compute the spectrum, in float64.

    Raises:
        ValueError: if the spectral radius of A is 1 or more, or (Aᵀ, b) is not
            controllable, so that some combination of units stays empty.
    """
    radii = np.abs(np.linalg.eigvals(propagator))
    if radii.max() >= 1:
        raise ValueError(
            "propagator: expected a spectral radius below 1, as there is no Gramian "
            f"otherwise, got {radii.max():.6g}; damp it, or use "
            "LearningLaw(solver=PseudoInverse(), conserve_gain=False)"
        )
    gramian = scipy.linalg.solve_discrete_lyapunov(propagator.T, np.outer(input, input))
    lengths = np.sqrt(np.diag(gramian).clip(min=0))
    if not lengths.all() or _smallest_eigenvalue(gramian, lengths) < _SINGULAR:
        raise ValueError(
            "propagator and input: expected (propagatorᵀ, input) to be controllable, "
            f"got {propagator.tolist()} and {input.tolist()}, with which some "
            "combination of the units stays zero whatever the gradients (duplicate "
            "decays, say); remove the redundant unit, or use "
            "LearningLaw(solver=PseudoInverse(), conserve_gain=False)"
        )
    lower = np.linalg.cholesky(gramian)
    size = len(input)
    return Spectrum(
        gramian=gramian,
        whitening=scipy.linalg.solve_triangular(lower, np.eye(size), lower=True).T,
        gain=np.linalg.solve(np.eye(size) - propagator.T, input),
        resonance=float(np.sum((1 + radii) / (1 - radii))),
    )


def _smallest_eigenvalue(gramian: np.ndarray, lengths: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(gramian / np.outer(lengths, lengths))[0])
