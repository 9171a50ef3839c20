"""What is measured on networks of one architecture that were trained separately.

Each study returns a record of `_result`, as plain values.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import combinability
from benchmarks.combinability._metrics import Metrics
from benchmarks.intervals import Pair, interval_of, over_networks
from combinability import coefficients, permutations

Advance = Callable[[int, int], None]

CONTROLS = (
    "not matched",
    "not matched, temperature",
    "matched",
    "matched, temperature",
    "matched, repaired",
)
# Of each perturbed matching: combinations, and perturbations of each fraction.
_PERTURBED_SAMPLES, _TRIALS = 12, 2
# Combinations of each pair that are compared with their parents and in twos.
_COMPARED = 8


@dataclasses.dataclass(eq=False)
class Networks:
    """Networks of one architecture, and what they are measured with.

    Attributes:
      metrics: Losses and errors.
      variables: Of each network.
      scores: The metrics of each network.
      key: Of everything that is drawn.
      permutations: (i, j), i < j -> the permutation of network j towards network i.
    """

    metrics: Metrics
    variables: list[Any]
    scores: list[dict[str, float]]
    key: jax.Array
    permutations: dict[Pair, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def symmetry(self) -> combinability.Symmetry:
        """The permutation symmetry of the architecture."""
        example = self.metrics.calibration.inputs[:2]
        apply = self.metrics.network.apply
        return combinability.infer_symmetry(apply, self.variables[0], example)

    def parents(self, pair: Pair, metric: str) -> float:
        """Return the mean of a metric over the two networks of a pair."""
        return (self.scores[pair[0]][metric] + self.scores[pair[1]][metric]) / 2

    def aligned(self, pair: Pair) -> tuple[Any, Any]:
        """Return network i and network j aligned to it."""
        i, j = pair
        moved = self.symmetry.apply(self.permutations[pair], self.variables[j])
        return self.variables[i], moved


def scores(metrics: Metrics, variables: list[Any]) -> list[dict[str, float]]:
    """Return the metrics of each network."""
    found = map(jax.device_get, map(jax.jit(metrics.scores), variables))
    return [{name: float(value) for name, value in one.items()} for one in found]


def match(networks: Networks, points: int, advance: Advance) -> dict[str, Any]:
    """Match every pair by weights, directly and through a third network.

    Args:
      networks: The networks.
      points: Points of each segment.
      advance: Called as `advance(done, total)`.

    Returns:
      "matching", "transitivity" and "permutations", group -> (pairs, *within, size).
    """
    symmetry, found = networks.symmetry, []

    def matched(symmetry, a, b, *, key):
        found.append(combinability.match(symmetry, a, b, key=key))
        return found[-1]

    transitivity = combinability.transitivity(
        networks.metrics.scores,
        symmetry,
        networks.variables,
        key=networks.key,
        match=matched,
        points=points,
        progress=advance,
    )
    identity = permutations.identity(symmetry)
    moved = [permutations.distance(identity, m.permutation) for m in found]
    starts = [dict(m.starts or {}) for m in found]
    return {
        "permutations": transitivity.permutations,
        "matching": {
            "pairs": transitivity.pairs,
            "objective": [float(m.objective) for m in found],
            "starts": {name: [s[name] for s in starts] for name in starts[0]},
            "best_start": [max(s, key=lambda name: s[name]) for s in starts],
            "moved": [float(distance) for distance in moved],
        },
        "transitivity": _transitivity(transitivity),
    }


def _transitivity(found: combinability.Transitivity) -> dict[str, Any]:
    """Barriers of pairs; through a third network, means over those not of the pair."""
    pairs = [(int(i), int(j)) for i, j in found.pairs]
    rows, columns = np.transpose(pairs)

    def through(heights: np.ndarray, i: int, j: int) -> float:
        thirds = [k for k, r in enumerate(found.references) if r not in (i, j)]
        return float(np.mean(heights[thirds, i, j]))

    heights = {
        "unmatched": {m: x[rows, columns] for m, x in found.unmatched.items()},
        "direct": {m: x[rows, columns] for m, x in found.direct.items()},
        "through": {
            m: [through(x, *pair) for pair in pairs] for m, x in found.through.items()
        },
    }
    return {
        "barriers": {name: interval_of(pairs, x) for name, x in heights.items()},
        "matrices": {
            "unmatched": found.unmatched,
            "direct": found.direct,
            "through_first": {m: x[0] for m, x in found.through.items()},
        },
        "cycles": {
            group: {"mean": np.mean(defects), "chance": found.chance[group]}
            for group, defects in found.cycles.items()
        },
    }


def controls(
    networks: Networks, pairs: list[Pair], points: int, advance: Advance
) -> dict[str, Any]:
    """Measure the segments of pairs with and without matching and what repairs it.

    REPAIR needs a Linen module, whose layers it can tell apart.
    """
    metrics = networks.metrics
    names = CONTROLS if isinstance(metrics.network.module, nn.Module) else CONTROLS[:-1]
    found: dict[str, list[Any]] = {name: [] for name in names}
    for done, pair in enumerate(pairs):
        a, aligned = networks.aligned(pair)
        b = networks.variables[pair[1]]
        segments = (
            (metrics.scores, b, ()),
            (metrics.tempered, b, ()),
            (metrics.scores, aligned, ()),
            (metrics.tempered, aligned, ()),
            (metrics.repaired, aligned, (a, aligned)),
        )
        for name, (metric, end, args) in zip(names, segments, strict=False):
            found[name].append(
                combinability.barrier(metric, a, end, points=points, args=args)
            )
        advance(done + 1, len(pairs))
    stacked = {
        name: jax.tree.map(lambda *leaves: np.stack(leaves), *barriers)
        for name, barriers in found.items()
    }
    return {
        "fractions": stacked["matched"].fractions[0],
        "barriers": {name: interval_of(pairs, x.height) for name, x in stacked.items()},
        "curves": {
            name: {metric: values.mean(0) for metric, values in x.losses.items()}
            for name, x in stacked.items()
        },
    }


@dataclasses.dataclass(frozen=True)
class Cell:
    """A distribution of coefficients.

    Attributes:
      distribution: Its name, for readers.
      granularity: What has a coefficient of its own.
      make: Makes it, from a granularity and a symmetry.
      aligned: Whether the second network is aligned.
    """

    distribution: str
    granularity: str
    make: Callable[..., coefficients.Coefficients]
    aligned: bool = True

    @property
    def name(self) -> str:
        """A name among all cells."""
        suffix = "" if self.aligned else ", not matched"
        return f"{self.distribution}, {self.granularity}{suffix}"


_GRANULARITIES = ("element", "neuron", "tensor", "module", "model")
_UNIFORM = functools.partial(Cell, "uniform [0, 1]", make=combinability.uniform)


def _distribution(name: str, make: Callable, *parameters: float, by: str = "element"):
    return Cell(name, by, functools.partial(make, *parameters))


CELLS = (
    *(_UNIFORM(granularity) for granularity in _GRANULARITIES),
    _distribution("vertices", coefficients.bernoulli, 0.5),
    _distribution("vertices", coefficients.bernoulli, 0.5, by="neuron"),
    _distribution("beta(0.5, 0.5)", coefficients.beta, 0.5, 0.5),
    _distribution("normal(0.5, 0.25)", coefficients.normal, 0.5, 0.25),
    _distribution("uniform [−0.25, 1.25]", combinability.uniform, -0.25, 1.25),
    _distribution("uniform [−0.5, 1.5]", combinability.uniform, -0.5, 1.5),
    _UNIFORM("element", aligned=False),
    _UNIFORM("neuron", aligned=False),
)


def combine(
    networks: Networks,
    pairs: list[Pair],
    cell: Cell,
    samples: int,
    key: jax.Array,
    advance: Advance,
    checkpoint: Callable[[str], Path] | None = None,
) -> dict[str, Any]:
    """Evaluate random combinations of every pair, the same number of each.

    Args:
      networks: The networks.
      pairs: The pairs.
      cell: How coefficients are drawn.
      samples: Combinations of all pairs together.
      key: Of the coefficients.
      advance: Called as `advance(done, total)`.
      checkpoint: Names a file for finished samples of a pair.
    """
    each, found = samples // len(pairs), []
    distribution = cell.make(granularity=cell.granularity, symmetry=networks.symmetry)
    for number, pair in enumerate(pairs):
        a, aligned = networks.aligned(pair)
        values = combinability.evaluate(
            networks.metrics.scores,
            a,
            aligned if cell.aligned else networks.variables[pair[1]],
            distribution,
            key=jax.random.fold_in(key, number),
            samples=each,
            progress=lambda done, _, n=number: advance(n * each + done, samples),
            checkpoint=checkpoint and checkpoint(f"{number}.npz"),
        )
        found.append({name: np.asarray(x, float) for name, x in values.items()})

    def spread(metric: str) -> dict[str, Any]:
        columns = [values[metric] for values in found]
        rows = [
            (x, networks.parents(pair, metric))
            for pair, x in zip(pairs, columns, strict=True)
        ]
        beyond = {
            "excess": [x.mean() - parents for x, parents in rows],
            "excess_95": [np.percentile(x, 95) - parents for x, parents in rows],
        }
        percentiles = np.percentile(np.concatenate(columns), np.arange(101))
        return {"percentiles": percentiles, **interval_of(pairs, beyond)}

    asked = ("distribution", "granularity", "aligned")
    return {
        "cell": {name: getattr(cell, name) for name in asked},
        **{metric: spread(metric) for metric in networks.scores[0]},
    }


def robustness(
    networks: Networks,
    pairs: list[Pair],
    fractions: tuple[float, ...],
    points: int,
    advance: Advance,
) -> dict[str, Any]:
    """Perturb the matching of pairs by increasing fractions of the units."""
    found = []
    for number, (i, j) in enumerate(pairs):
        found.append(
            combinability.robustness(
                networks.metrics.scores,
                networks.symmetry,
                networks.variables[i],
                networks.variables[j],
                networks.permutations[i, j],
                key=jax.random.fold_in(networks.key, number),
                fractions=fractions,
                trials=_TRIALS,
                samples=_PERTURBED_SAMPLES,
                points=points,
            )
        )
        advance(number + 1, len(pairs))

    def row(place: int) -> dict[str, Any]:
        barrier, excess = {}, {}
        for metric in networks.scores[0]:
            barrier[metric] = [x.barrier[metric][place].mean() for x in found]
            excess[metric] = [
                x.losses[metric][place].mean() - networks.parents(pair, metric)
                for x, pair in zip(found, pairs, strict=True)
            ]
        return {
            "barrier": interval_of(pairs, barrier),
            "excess": interval_of(pairs, excess),
        }

    return {
        "fractions": list(fractions),
        "moved": np.mean([x.moved.mean(1) for x in found], 0),
        "lost": np.mean([x.lost.mean(1) for x in found], 0),
        "rows": [row(place) for place in range(len(fractions))],
    }


def difference(
    networks: Networks, pairs: list[Pair], advance: Advance
) -> dict[str, Any]:
    """Compare combinations with their parents, with each other, and two networks."""
    measure, rows = jax.jit(functools.partial(_differences, networks.metrics)), []
    for done, pair in enumerate(pairs):
        key = jax.random.fold_in(networks.key, done)
        rows.append(jax.device_get(measure(key, *networks.aligned(pair))))
        advance(done + 1, len(pairs))
    relative = {
        kind: [
            float(row[kind]["disagreement"] / max(row["seeds"]["disagreement"], 1e-9))
            for row in rows
        ]
        for kind in ("parents", "combinations")
    }
    return {
        **{
            kind: {
                name: over_networks(pairs, [float(row[kind][name]) for row in rows])
                for name in rows[0][kind]
            }
            for kind in rows[0]
        },
        "relative": {k: over_networks(pairs, values) for k, values in relative.items()},
    }


def _differences(metrics: Metrics, key: jax.Array, a: Any, b: Any) -> dict[str, Any]:
    """Means over combinations of one pair."""
    distribution = combinability.uniform()

    def combination(index):
        return combinability.combine(a, b, distribution.sample(index, a, key=key))

    def compared(x, y):
        apply, test = metrics.network.apply, metrics.test
        found = combinability.difference(apply, x, y, test.inputs, test.targets)
        assert found.error_overlap is not None  # as labels were given
        return found._replace(error_overlap=found.error_overlap.overlap)._asdict()

    def one(index):
        x, y = combination(2 * index), combination(2 * index + 1)
        to_parents = jax.tree.map(
            lambda *both: sum(both) / 2, compared(x, a), compared(x, b)
        )
        return {"parents": to_parents, "combinations": compared(x, y)}

    found = jax.lax.map(one, jnp.arange(_COMPARED))
    means = jax.tree.map(lambda values: values.mean(0), found)
    return {"seeds": compared(a, b), **means}


def landscape(networks: Networks, resolution: int) -> dict[str, Any]:
    """Measure planes through three points of the loss landscape.

    Args:
      networks: At least three.
      resolution: Points along a side.
    """
    a, b = networks.aligned((0, 1))
    _, c = networks.aligned((0, 2))
    coin = coefficients.bernoulli(0.5)
    vertices = [
        combinability.combine(a, b, coin.sample(i, a, key=networks.key))
        for i in range(2)
    ]
    corners = {
        "aligned": (a, b, c),
        "unmatched": networks.variables[:3],
        "vertices": (a, *vertices),
    }
    plane = functools.partial(_plane, networks.metrics.scores, resolution)
    return {name: plane(*points) for name, points in corners.items()}


def _plane(metric: Callable, resolution: int, a: Any, b: Any, c: Any) -> dict[str, Any]:
    """The plane of a, b and c, in coordinates in which a is (0, 0) and b (1, 0)."""

    def inner(x: Any, y: Any) -> float:
        products = jax.tree.map(lambda u, v: float(jnp.vdot(u, v)), x, y)
        return sum(jax.tree.leaves(products))

    first = jax.tree.map(jnp.subtract, b, a)
    second = jax.tree.map(jnp.subtract, c, a)
    length = inner(first, first)
    along = inner(first, second) / length
    across = jax.tree.map(lambda x, y: x - along * y, second, first)
    height = math.sqrt(inner(across, across) / length)
    x = np.linspace(-0.35, 1.35, resolution)
    y = np.linspace(-0.3 * height, 1.35 * height, resolution)
    points = np.array([(u, v / height) for v in y for u in x], np.float32)

    def at(point):
        return metric(
            jax.tree.map(
                lambda o, e, f: o + point[0] * e + point[1] * f, a, first, across
            )
        )

    found = jax.jit(lambda points: jax.lax.map(at, points))(points)
    grids = jax.tree.map(lambda x: np.asarray(x).reshape(resolution, resolution), found)
    marks = [(0.0, 0.0), (1.0, 0.0), (along, height)]
    return {"x": x, "y": y, "marks": marks, **grids}
