"""Deterministic problems, where nothing but the optimizer decides."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.baselines import Hyper, Maker


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function to minimise; its smallest value is 0.

    Args:
      loss: The function of a vector.
      start: Draws a starting point.
    """

    loss: Callable[[jax.Array], jax.Array]
    start: Callable[[jax.Array], jax.Array]


def quadratic(x: jax.Array) -> jax.Array:
    r"""Returns :math:`\frac12 x^\top H x` with condition number 10⁴.

    The eigenvalues lie between 10⁻⁴ and 1, evenly on a logarithmic scale. The
    eigenvectors are a fixed random basis: no coordinate is special.

    Example:
      >>> print(f"{quadratic(jnp.zeros(3)):.0f}")
      0
    """
    size = len(x)
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    hessian = (basis * np.geomspace(1e-4, 1.0, size)) @ basis.T
    return 0.5 * jnp.vdot(x, jnp.asarray(hessian, x.dtype) @ x)


def rosenbrock(x: jax.Array) -> jax.Array:
    r"""Returns :math:`\bigl((1 - x_1)^2 + 100\,(x_2 - x_1^2)^2\bigr) / 1000`.

    It is divided by about its largest curvature at the minimum, so that rates are
    comparable with those of the quadratic problem.

    Example:
      >>> print(f"{rosenbrock(jnp.array([0.0, 0.0])):.3f}")
      0.001
    """
    return ((1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2) / 1000.0


PROBLEMS = {
    "quadratic": Problem(quadratic, lambda key: jax.random.normal(key, (100,))),
    "rosenbrock": Problem(
        rosenbrock, lambda key: jax.random.uniform(key, (2,), minval=-2.0, maxval=2.0)
    ),
}


class Descent(NamedTuple):
    """How one run went: the loss before and after it, and probes at each point."""

    first_loss: jax.Array
    last_loss: jax.Array
    probes: dict[str, jax.Array]


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="points")
def minimise(
    problem: Problem, maker: Maker, hyper: Hyper, seed: Any, *, points: int
) -> Descent:
    """Minimises a problem with one optimizer from one starting point.

    Args:
      problem: What is minimised.
      maker: Makes the optimizer and says for how many steps it runs.
      hyper: Its hyper-parameters, scalars or arrays.
      seed: Decides on the starting point.
      points: How often the method's probe is read; divides the number of steps.

    Returns:
      Losses and probes.
    """
    optimizer, method = maker(hyper), maker.method
    x = problem.start(jax.random.key(seed))

    def step(_, carry):
        x, state = carry
        updates, state = optimizer.update(jax.grad(problem.loss)(x), state, x)
        return optax.apply_updates(x, updates), state

    def stretch(carry, _):
        carry = jax.lax.fori_loop(0, maker.steps // points, step, carry)
        return carry, {} if method.probe is None else method.probe(carry[1])

    (last, state), probes = jax.lax.scan(
        stretch, (x, optimizer.init(x)), None, length=points
    )
    if method.eval_params is not None:
        last = method.eval_params(state, last)
    return Descent(problem.loss(x), problem.loss(last), probes)
