"""Coordinate descent for the lasso, on moments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stitching._moments import Moments
from stitching._soft_threshold import soft_threshold
from stitching.direct._checks import pair_moments
from stitching.direct._fit import times
from stitching.direct._whitening import varying


class Lasso(NamedTuple):
    """Moments without constant channels, and the units of their covariances."""

    xx: Float[Array, "p p"]
    xy: Float[Array, "p q"]
    units: Float[Array, "p q"]


def lasso(moments: Moments) -> Lasso:
    """The problem of these moments; raises as `pair_moments` does."""
    moments = pair_moments(moments)
    varies = varying(moments)
    xx = jnp.where(varies[:, None] & varies, moments.xx, 0)
    xy = jnp.where(varies[:, None], moments.xy, 0)
    deviations_x, deviations_y = (
        jnp.sqrt(jnp.diagonal(each)) for each in (xx, moments.yy)
    )
    units = jnp.outer(deviations_x, deviations_y)
    return Lasso(xx, xy, jnp.where(units > 0, units, jnp.inf))


def descend(
    problem: Lasso, penalty: Array, weight: Array, limits: tuple[float, int]
) -> Array:
    """Coordinate descent from a weight until the conditions hold."""
    tolerance, sweeps = limits
    variances = jnp.diagonal(problem.xx)

    def row(i, weight):
        variance = variances[i]
        pull = problem.xy[i] - times(problem.xx[i], weight) + variance * weight[i]
        new = soft_threshold(pull, penalty) / jnp.where(variance > 0, variance, 1)
        return weight.at[i].set(jnp.where(variance > 0, new, 0))

    def sweep(state):
        weight, done, _ = state
        weight = jax.lax.fori_loop(0, len(variances), row, weight)
        return weight, done + 1, violation(problem, penalty, weight)

    def unfinished(state):
        return (state[2] > tolerance) & (state[1] < sweeps)

    start = (weight, jnp.zeros((), jnp.int32), violation(problem, penalty, weight))
    return jax.lax.while_loop(unfinished, sweep, start)[0]


def violation(problem: Lasso, penalty: Array, weight: Array) -> Array:
    """The largest violation of the conditions of optimality, in these units."""
    pull = problem.xy - times(problem.xx, weight)
    if_zero = jnp.maximum(jnp.abs(pull) - penalty, 0)
    if_not = jnp.abs(pull - penalty * jnp.sign(weight))
    return (jnp.where(weight == 0, if_zero, if_not) / problem.units).max()
