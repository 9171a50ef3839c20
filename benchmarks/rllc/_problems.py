"""Deterministic problems, where only the optimizer matters."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines import Maker, Method
from benchmarks.configs.rllc import LEARNED_FROM, Config
from benchmarks.rllc import _tuning
from benchmarks.rllc._laws import law_probe
from benchmarks.training import Fit, fit

STEPS = 1000
_POINTS = 20
# These problems are cheap, and their curvatures are not those of networks: more
# trials than networks have, over rates that extend this factor further at both ends.
_TRIALS = 4
_WIDEN = 10.0
# The logarithm of a loss that has underflowed is taken here.
_SMALLEST = 1e-38
# Weight decay leads straight to a minimum at the origin, which would prove nothing;
# Muon is made for matrices, and there are none here.
_UNSUITABLE = ("adamw", "muon")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function to minimise; its smallest value is 0."""

    loss: Callable[[jax.Array], jax.Array]  # the function of a vector
    start: Callable[[jax.Array], jax.Array]  # draws a starting point


def quadratic(x: jax.Array) -> jax.Array:
    r"""Return :math:`\frac12 x^\top H x` with condition number 10⁴.

    The eigenvalues lie between 10⁻⁴ and 1, evenly on a logarithmic scale. The
    eigenvectors are a fixed random basis: no coordinate is special.
    """
    size = len(x)
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    hessian = (basis * np.geomspace(1e-4, 1.0, size)) @ basis.T
    return 0.5 * jnp.vdot(x, jnp.asarray(hessian, x.dtype) @ x)


def rosenbrock(x: jax.Array) -> jax.Array:
    r"""Return :math:`\bigl((1 - x_1)^2 + 100\,(x_2 - x_1^2)^2\bigr) / 1000`.

    It is divided by about its largest curvature at the minimum, so that rates are
    comparable with those of the quadratic problem.
    """
    return ((1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2) / 1000.0


PROBLEMS = {
    "quadratic": Problem(quadratic, lambda key: jax.random.normal(key, (100,))),
    "rosenbrock": Problem(
        rosenbrock, lambda key: jax.random.uniform(key, (2,), minval=-2.0, maxval=2.0)
    ),
}


def run_problem(
    problem: str, methods: Sequence[Method], config: Config
) -> dict[str, Any]:
    """Return the methods of a `Problem`, by name.

    Rates are constant. Every method has the same number of trials, all from one
    starting point; the best is run from fresh ones, which take the place of seeds.
    """
    found: dict[str, Any] = {}
    for method in methods:
        if method.name not in _UNSUITABLE:
            source = LEARNED_FROM.get(method.name)
            law = found[source]["learned_law"] if source else None
            found[method.name] = _run_method(PROBLEMS[problem], method, config, law)
    return found


def _run_method(
    problem: Problem, method: Method, config: Config, law: Sequence[float] | None
) -> dict[str, Any]:
    def run(trials: Sequence[Mapping[str, float]], seeds: Sequence[int]) -> Fit:
        laws = {} if law is None else {"constant": law}
        keys = jax.vmap(jax.random.key)(np.array(seeds))
        return fit(
            _Loss(problem),
            {"params": jax.vmap(problem.start)(keys)},
            Maker(method, STEPS),
            jnp.zeros(STEPS),  # rows that nothing reads: all steps are one epoch
            key=keys,
            steps=STEPS,
            batch_size=1,
            hyper=_tuning.stacked(trials, ["constant"] * len(seeds), laws),
            points=range(0, STEPS + 1, STEPS // _POINTS),
            evaluate=_Evaluation(problem, method),
        )

    trials = _tuning.sample(method, _TRIALS * config.trials, _WIDEN)
    tried = run(trials, [0] * len(trials))
    losses, diverged = _outcome(tried)
    probes = {name: values[:, 1:] for name, values in tried.measured["probes"].items()}
    found = _tuning.tuned(
        method,
        trials,
        {"log10_loss": losses},
        diverged,
        probes,
        metric="log10_loss",
        widen=_WIDEN,
    )
    seeds = [1 + i for i in range(config.seeds)]
    losses, diverged = _outcome(run([found["selected"]] * len(seeds), seeds))
    return found | {"seeds": seeds, "log10_loss": losses, "diverged": diverged}


@dataclasses.dataclass(frozen=True)
class _Loss:
    problem: Problem

    def __call__(self, params, statistics, batch, key, step):
        return self.problem.loss(params), statistics


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    problem: Problem
    method: Method

    def __call__(self, variables, opt_state, step):
        params = variables["params"]
        if self.method.eval_params is not None:
            params = self.method.eval_params(opt_state, params)
        return {"loss": self.problem.loss(params), "probes": law_probe(opt_state)}


def _outcome(found: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithm of every final loss, and whether the run diverged."""
    losses = found.measured["loss"].astype(float)
    first, last = losses[:, 0], losses[:, -1]
    with np.errstate(invalid="ignore"):
        logarithm = np.log10(np.maximum(last, _SMALLEST))
    return logarithm, ~np.isfinite(last) | (last > first)
