r"""How much the layers of combinations vary, and what theory predicts of it.

If the units of a layer have coefficients t of mean m and variance v, and the inputs of
the layer are the networks' own, then the variance of its outputs is

.. math::

    \bigl((1 - m)^2 + v\bigr) \sigma_a^2 + (m^2 + v) \sigma_b^2
    + 2 \bigl(m (1 - m) - v\bigr) \sigma_{ab}

on average over t. At the first layer this is exact where the weights of a unit share
their coefficient; where each weight has its own, it assumes inputs that are not
correlated, or else differences that inputs have in common average out. At the middle of
the segment (m = 1/2, v = 0) it collapses to the extent that the outputs of the two
networks are uncorrelated (Jordan et al., 2022, arXiv 2211.08403); at the vertices of
the hypercube (v = 1/4) not at all, and beyond them it grows. The part that v = 0 leaves
is the signal: the variance of what the mean of the coefficients gives. The rest differs
from draw to draw.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import combinability
import stitching
from benchmarks.combinability import _studies
from benchmarks.intervals import Pair, interval_of, pair_interval

# Combinations of each pair and distribution.
_SAMPLES = 20
# Coefficients that the moments of a distribution are taken from.
_COEFFICIENTS = 100_000
_BY_CELL = ("predicted", "signal", "measured")


def variances(study: _studies.Study) -> dict[str, Any]:
    """Return a `Variances` for each dense and convolutional layer, by path."""
    inputs, network = study.metrics.calibration.inputs, study.metrics.network
    layers = jax.eval_shape(network.statistics, study.variables[0], inputs)
    paths = list(layers)
    fronts = {
        path: _of_channels(network.cut(path, inputs[:2]).front, of.mean.size)
        for path, of in layers.items()
    }
    cells = {cell: _moments(cell) for cell in _studies.CELLS if cell.aligned}
    rows = []
    for done, pair in enumerate(study.ring):
        rows.append(_of_pair(study, fronts, cells, pair, done))
        study.advance(done + 1, len(study.ring))

    def over_pairs(path: str) -> dict[str, Any]:
        found = [row[path] for row in rows]
        correlation = [one["correlation"] for one in found]
        return {"correlation": pair_interval(study.ring, correlation)} | {
            name: interval_of(
                study.ring,
                {cell.name: [one[name][cell.name] for one in found] for cell in cells},
            )
            for name in _BY_CELL
        }

    return {path: over_pairs(path) for path in paths}


def _of_pair(
    study: _studies.Study,
    fronts: Mapping[str, Callable[..., Any]],
    cells: Mapping[_studies.Cell, tuple[float, float]],
    pair: Pair,
    number: int,
) -> dict[str, dict[str, Any]]:
    """Return what was found at each layer, by path."""
    a, b = study.aligned(pair)
    found: dict[str, dict[str, Any]] = {}
    for path, front in fronts.items():
        sums = np.asarray(_sums(front, a, b, study.metrics.calibration.inputs))
        mixed = functools.partial(_mixed, *sums)
        parents = (sums[0] + sums[2]) / 2
        moments = {cell.name: of for cell, of in cells.items()}
        found[path] = {
            "parents": parents,
            "correlation": sums[1] / np.sqrt(sums[0] * sums[2]),
            "predicted": {n: mixed(m, v) / parents for n, (m, v) in moments.items()},
            "signal": {n: mixed(m, 0.0) / parents for n, (m, _) in moments.items()},
            "measured": {},
        }
    for cell in cells:
        measured = combinability.evaluate(
            study.metrics.variances,
            a,
            b,
            cell.make(granularity=cell.granularity, symmetry=study.symmetry),
            key=jax.random.fold_in(study.key, number),
            samples=_SAMPLES,
        )
        for path, values in measured.items():
            ratio = float(np.mean(values)) / found[path]["parents"]
            found[path]["measured"][cell.name] = ratio
    return found


def _moments(cell: _studies.Cell) -> tuple[float, float]:
    """Mean and variance of a distribution's coefficients."""
    like, key = jnp.zeros(_COEFFICIENTS), jax.random.key(0)
    coefficients = cell.make().sample(0, like, key=key)
    return float(jnp.mean(coefficients)), float(jnp.var(coefficients))


def _mixed(own: float, shared: float, other: float, m: float, v: float) -> float:
    """The variance of a layer, from the networks' variances and their covariance."""
    of_a, of_b = (1 - m) ** 2 + v, m**2 + v
    return of_a * own + of_b * other + 2 * (m * (1 - m) - v) * shared


def _of_channels(front: Callable[..., Any], channels: int) -> Callable[..., Any]:
    """A front with outputs of shape (samples, channels): heads × their size in one."""
    return lambda variables, inputs: front(variables, inputs).reshape(-1, channels)


@functools.partial(jax.jit, static_argnums=0)
def _sums(front: Any, a: Any, b: Any, inputs: jax.Array) -> jax.Array:
    """Variance, covariance and variance of a layer's outputs, over the channels."""
    seen = stitching.moments(front(a, inputs), front(b, inputs))
    return jnp.array([jnp.trace(each) for each in (seen.xx, seen.xy, seen.yy)])
