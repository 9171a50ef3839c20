"""The k × k algebra of a learning law: Gram matrices, corrections, conserved gain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rllc._law import LearningLaw
from rllc._memory import LinearMemory, Memory
from rllc._solver import PseudoInverse, Ridge

Matrix = Float[Array, "groups k k"]
Vector = Float[Array, "groups k"]
Scalars = Float[Array, " groups"]


class Correction(NamedTuple):
    """A corrected law and what was seen on the way."""

    law: Vector
    gain: Scalars
    explained: Scalars


def geometry(memory: Memory, law: LearningLaw) -> "Geometry":
    """How the lengths and angles of a memory's units are known, and in which basis."""
    if isinstance(memory, LinearMemory):
        return LinearGeometry(memory, law)
    return MeasuredGeometry(law)


def fixed_gain(memory: Memory, law: Vector) -> Scalars:
    """The gain of a law that is not corrected; 1 where the memory is not linear."""
    if isinstance(memory, LinearMemory):
        return _linear_gain(gain_of_units(memory), law)
    return jnp.ones(len(law), law.dtype)


def correct(
    geometry: "Geometry",
    config: LearningLaw,
    rate: Array | float,
    law: Vector,
    initial: Vector,
    gram: Matrix,
    products: Vector,
    square: Scalars,
) -> Correction:
    """L ← L + c₂ M⁺g, with the gain conserved and the change bounded if asked for."""
    solution = geometry.solve(gram, products, square)
    change = geometry.scale(gram, square, initial)[:, None] * solution
    new = law + rate * change
    if config.conserve_gain:
        new = geometry.conserve(new, law, initial, rate)
    if config.trust_region is not None:
        change = new - law
        allowed = config.trust_region**2 * geometry.length_squared(gram, law)
        wanted = geometry.length_squared(gram, change)
        shrink = root(_safe_divide(allowed, wanted))
        new = law + change * jnp.minimum(1, jnp.where(wanted > 0, shrink, 1))[:, None]
    explained = _safe_divide(jnp.sum(products * solution, axis=-1), square)
    return Correction(new, geometry.gain(new, initial, gram), explained)


class LinearGeometry:
    """Linear memory: the Gram matrix is carried by recursion, in the basis MQ.

    Q whitens the Gramian under :class:`Ridge`: raw Jordan blocks are conditioned too
    badly for float32. Under :class:`PseudoInverse`, which depends on the basis, it is
    the user's own.
    """

    recursive = True  # whether the next Gram matrix follows from this one

    def __init__(self, memory: LinearMemory, law: LearningLaw):
        self.solver = law.solver
        whiten = isinstance(law.solver, Ridge)
        spectrum = memory.spectrum if whiten or law.conserve_gain else None
        size = memory.size
        self.basis = spectrum.whitening if spectrum and whiten else np.eye(size)
        self.propagator = np.linalg.solve(self.basis, memory.propagator @ self.basis)
        self.input = self.basis.T @ memory.input
        self.resonance = spectrum.resonance if spectrum else np.nan
        self.gain_vector = spectrum.gain if spectrum else gain_of_units(memory)
        if spectrum:
            direction = np.linalg.solve(spectrum.gramian, spectrum.gain)
            self.gain_direction = direction / (spectrum.gain @ direction)

    def advance(self, gram: Matrix, products: Vector, square: Scalars) -> Matrix:
        """The Gram matrix after the update, from that before."""
        propagator = _constant(self.propagator, gram)
        input = _constant(self.input, gram)
        carried = jnp.einsum("ji,gjk,kl->gil", propagator, gram, propagator)
        carried_products = self._rotated(products) @ propagator
        cross = jnp.einsum("gi,j->gij", carried_products, input)
        new = jnp.einsum("g,i,j->gij", square, input, input)
        return carried + cross + cross.swapaxes(-1, -2) + new

    def solve(self, gram: Matrix, products: Vector, square: Scalars) -> Vector:
        """M⁺g in the user's basis."""
        rotated = self._rotated(products)
        if isinstance(self.solver, PseudoInverse):
            solution = _pseudo_inverse_solve(gram, rotated, self.solver.rcond)
        else:
            trace = jnp.trace(gram, axis1=-2, axis2=-1)
            ridge = self.solver.relative(linear=True)
            ridge = ridge * (self.resonance * square + trace)
            solution = _ridge_solve(gram, rotated, ridge)
        return solution @ _constant(self.basis.T, gram)

    def scale(self, gram: Matrix, square: Scalars, initial: Vector) -> Scalars:
        """What makes M⁺g a dimensionless change of the law."""
        del gram, initial
        return jnp.ones_like(square)

    def conserve(self, new: Vector, old: Vector, initial: Vector, rate) -> Vector:
        """The nearest law, in the metric of the Gramian, with the initial gain."""
        del old, rate
        excess = (new - initial) @ _constant(np.asarray(self.gain_vector), new)
        return new - jnp.outer(excess, _constant(self.gain_direction, new))

    def gain(self, law: Vector, initial: Vector, gram: Matrix) -> Scalars:
        """The effective learning rate of a law."""
        del initial, gram
        return _linear_gain(self.gain_vector, law)

    def measured(self, gram: Matrix) -> Matrix:
        """A Gram matrix of the stored units, in the basis of the algebra."""
        basis = _constant(self.basis, gram)
        return jnp.einsum("ji,gjk,kl->gil", basis, gram, basis)

    def length_squared(self, gram: Matrix, law: Vector) -> Scalars:
        """‖ML‖² for a law in the user's basis."""
        rotated = law @ _constant(np.linalg.inv(self.basis).T, gram)
        return _quadratic(gram, rotated)

    def _rotated(self, products: Vector) -> Vector:
        return products @ _constant(self.basis, products)


class MeasuredGeometry:
    """Any other memory: the Gram matrix is measured at every step."""

    recursive = False

    def __init__(self, law: LearningLaw):
        self.solver = law.solver

    def advance(self, gram: Matrix, products: Vector, square: Scalars) -> Matrix:
        del products, square
        return gram

    def solve(self, gram: Matrix, products: Vector, square: Scalars) -> Vector:
        if isinstance(self.solver, PseudoInverse):
            return _pseudo_inverse_solve(gram, products, self.solver.rcond)
        lengths = _lengths(gram)
        inverse = jnp.where(lengths > 0, _safe_divide(1.0, lengths), 0)
        correlation = gram * inverse[:, :, None] * inverse[:, None, :]
        empty = _diagonal(jnp.where(lengths == 0, 1, jnp.zeros_like(lengths)))
        ridge = self.solver.relative(linear=False) * gram.shape[-1]
        ridge = ridge * jnp.ones_like(square)
        return inverse * _ridge_solve(correlation + empty, products * inverse, ridge)

    def scale(self, gram: Matrix, square: Scalars, initial: Vector) -> Scalars:
        if isinstance(self.solver, PseudoInverse):
            return jnp.ones_like(square)
        step = root(_quadratic(gram, initial).clip(min=0))
        return _safe_divide(step, root(square))

    def conserve(self, new: Vector, old: Vector, initial: Vector, rate) -> Vector:
        """The law, pulled back to the initial one as fast as it is corrected."""
        return new - rate * (old - initial)

    def gain(self, law: Vector, initial: Vector, gram: Matrix) -> Scalars:
        lengths = _lengths(gram)
        aligned = jnp.sum(lengths * initial, axis=-1)
        ratio = _safe_divide(jnp.sum(lengths * law, axis=-1), aligned)
        return jnp.where(aligned == 0, 1.0, ratio)

    def measured(self, gram: Matrix) -> Matrix:
        return gram

    def length_squared(self, gram: Matrix, law: Vector) -> Scalars:
        return _quadratic(gram, law)


Geometry = LinearGeometry | MeasuredGeometry


def _ridge_solve(gram: Matrix, products: Vector, ridge: Scalars) -> Vector:
    """(G + ridge · I)⁻¹ u, and 0 where nothing was seen."""
    size = gram.shape[-1]
    scale = jnp.trace(gram, axis1=-2, axis2=-1) + ridge
    seen = _substantial(scale)
    safe = jnp.where(seen, scale, 1)
    ones = jnp.ones((len(gram), size), gram.dtype)
    matrix = (gram + _diagonal(ridge[:, None] * ones)) / safe[:, None, None]
    matrix = jnp.where(seen[:, None, None], matrix, _diagonal(ones))
    factor = jnp.linalg.cholesky(matrix)
    column = (products / safe[:, None])[..., None]
    solution = jax.scipy.linalg.cho_solve((factor, True), column)[..., 0]
    # Rounding can leave a matrix indefinite. What cannot be solved corrects nothing.
    solved = seen & jnp.all(jnp.isfinite(solution), axis=-1)
    return jnp.where(solved[:, None], solution, 0)


def _pseudo_inverse_solve(
    gram: Matrix, products: Vector, rcond: float | Array | None
) -> Vector:
    """G⁺ u, with eigenvalues below rcond times the largest counted as zero."""
    trace = jnp.trace(gram, axis1=-2, axis2=-1)
    seen = _substantial(trace)
    safe = jnp.where(seen, trace, 1)
    values, vectors = jnp.linalg.eigh(gram / safe[:, None, None])
    if rcond is None:
        rcond = gram.shape[-1] * float(jnp.finfo(gram.dtype).eps)
    kept = (values > rcond * values[:, -1:]) & seen[:, None]
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    rotated = jnp.einsum("gij,gi->gj", vectors, products / safe[:, None])
    return jnp.einsum("gij,gj->gi", vectors, inverse * rotated)


def _substantial(scale: Scalars) -> Bool[Array, " groups"]:
    """Whether squares of gradients are safely above underflow."""
    limits = jnp.finfo(scale.dtype)
    return scale > float(limits.tiny) / float(limits.eps)


def _lengths(gram: Matrix) -> Vector:
    return root(jnp.diagonal(gram, axis1=-2, axis2=-1).clip(min=0))


def root(square: Array) -> Array:
    """The square root, with derivative 0 instead of infinity at 0."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def _quadratic(gram: Matrix, vector: Vector) -> Scalars:
    return jnp.einsum("gi,gij,gj->g", vector, gram, vector)


def _safe_divide(numerator, denominator):
    nonzero = denominator != 0
    return jnp.where(nonzero, numerator / jnp.where(nonzero, denominator, 1), 0)


def _diagonal(vector: Vector) -> Matrix:
    identity = jnp.eye(vector.shape[-1], dtype=vector.dtype)
    return jnp.einsum("gi,ij->gij", vector, identity)


def _constant(value: np.ndarray, like: Array) -> Array:
    return jnp.asarray(value, like.dtype)


def _linear_gain(vector: np.ndarray | None, law: Vector) -> Scalars:
    if vector is None:
        return jnp.full(len(law), jnp.inf, law.dtype)
    return law @ _constant(vector, law)


def gain_of_units(memory: LinearMemory) -> np.ndarray | None:
    """γ, or None for an undamped memory: constant gradients fill it without end."""
    if np.max(np.abs(np.linalg.eigvals(memory.propagator))) >= 1:
        return None
    return np.linalg.solve(np.eye(memory.size) - memory.propagator.T, memory.input)
