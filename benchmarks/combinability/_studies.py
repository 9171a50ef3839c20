"""What is measured on networks of one architecture that were trained separately.

Each study returns a record of `_result`, as plain values.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import combinability
from benchmarks.configs.combinability import Config
from benchmarks.data import Split
from benchmarks.intervals import Pair, interval_of, over_networks, pair_interval
from benchmarks.models import Network
from benchmarks.networks import Advance, Task, quiet, row_scores
from combinability import coefficients, permutations

Scores = dict[str, jax.Array]

# Temperatures that logits are divided by, to find the best one.
TEMPERATURES = np.geomspace(0.05, 5.0, 41)
# What is measured along the segment between two networks.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """Mean losses (nats) and errors (fractions) on fixed training and test rows."""

    network: Network  # the architecture
    train: Split  # training rows that losses are measured on
    test: Split  # test rows
    calibration: Split  # other training rows, for REPAIR, statistics and temperatures

    def scores(self, variables: Any) -> Scores:
        """Return "train_loss", "train_error", "test_loss" and "test_error"."""
        return self._scores(lambda inputs: self.network.apply(variables, inputs))

    def tempered(self, variables: Any) -> Scores:
        """Return the same with the temperature that is best on the calibration rows."""
        logits = self.network.apply(variables, self.calibration.inputs)
        temperatures = jnp.asarray(TEMPERATURES, logits.dtype)
        losses = jax.vmap(
            lambda t: row_scores(logits / t, self.calibration.targets)[0].mean()
        )(temperatures)
        best = temperatures[jnp.argmin(losses)]
        return self._scores(lambda inputs: self.network.apply(variables, inputs) / best)

    def repaired(self, variables: Any, a: Any, b: Any) -> Scores:
        """Return the same of a combination of `a` and `b`, repaired.

        With BatchNorm its statistics are reset, else it is REPAIR.
        """
        rows = self.calibration.inputs
        if self.network.has_statistics(variables):
            return self.scores(self.network.reset(variables, rows))
        return self._scores(self.network.repaired(variables, a, b, rows))

    def variances(self, variables: Any) -> Scores:
        """Return the variances of layers on the calibration rows, by path.

        Of dense and convolutional layers, summed over channels.
        """
        found = self.network.statistics(variables, self.calibration.inputs)
        return {path: jnp.sum(of.deviation**2) for path, of in found.items()}

    def _scores(self, logits: Callable[[jax.Array], jax.Array]) -> Scores:
        found = {}
        for name, data in (("train", self.train), ("test", self.test)):
            losses, hits = row_scores(logits(data.inputs), data.targets)
            found[f"{name}_loss"] = losses.mean()
            found[f"{name}_error"] = 1.0 - hits.mean()
        return found


def make_metrics(task: Task, rows: int, calibration: int, seed: int) -> Metrics:
    """Return metrics on random rows of a task's training and test data."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(task.train.inputs))
    if calibration >= len(order):
        raise ValueError(
            f"calibration: expected fewer than the {len(order)} training rows of "
            f"{task.name}, some of which losses are measured on, got {calibration}"
        )
    return Metrics(
        task.network,
        task.train.taken(order[calibration : calibration + rows]),
        task.test.taken(generator.permutation(len(task.test.inputs))[:rows]),
        task.train.taken(order[:calibration]),
    )


@dataclasses.dataclass(frozen=True)
class Cell:
    """A distribution of coefficients."""

    distribution: str  # its name, for readers
    granularity: str  # what has a coefficient of its own
    # Makes it, from a granularity and a symmetry.
    make: Callable[..., coefficients.Coefficients]
    aligned: bool = True  # whether the second network is aligned

    @property
    def name(self) -> str:
        """A name among all cells."""
        suffix = "" if self.aligned else ", not matched"
        return f"{self.distribution}, {self.granularity}{suffix}"


def _cell(
    name: str, make: Callable, *parameters: float, by: str = "element", **options: Any
) -> Cell:
    return Cell(name, by, functools.partial(make, *parameters), **options)


_uniform = functools.partial(_cell, "uniform [0, 1]", combinability.uniform)
UNIFORM = _uniform()
CELLS = (
    UNIFORM,
    *(_uniform(by=by) for by in ("neuron", "tensor", "module", "model")),
    _cell("vertices", coefficients.bernoulli, 0.5),
    _cell("vertices", coefficients.bernoulli, 0.5, by="neuron"),
    _cell("beta(0.5, 0.5)", coefficients.beta, 0.5, 0.5),
    _cell("normal(0.5, 0.25)", coefficients.normal, 0.5, 0.25),
    _cell("uniform [−0.25, 1.25]", combinability.uniform, -0.25, 1.25),
    _cell("uniform [−0.5, 1.5]", combinability.uniform, -0.5, 1.5),
    _uniform(aligned=False),
    _uniform(by="neuron", aligned=False),
)


@dataclasses.dataclass(eq=False)
class Study:
    """Networks of one architecture, and what is measured on them."""

    config: Config  # how much is measured
    metrics: Metrics  # losses and errors
    variables: list[Any]  # of each network
    key: jax.Array  # of everything that is drawn
    advance: Advance = quiet  # called as `advance(done, total)`
    checkpoint: Callable[[str], Path] | None = None  # names a file for unfinished work
    # The metrics of each network; see `parents`.
    scores: list[dict[str, float]] = dataclasses.field(default_factory=list)
    # (i, j), i < j -> the permutation of network j towards network i.
    permutations: dict[Pair, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def symmetry(self) -> combinability.Symmetry:
        """The permutation symmetry of the architecture."""
        example = self.metrics.calibration.inputs[:2]
        apply = self.metrics.network.apply
        return combinability.infer_symmetry(apply, self.variables[0], example)

    @property
    def ring(self) -> list[Pair]:
        """As many pairs as networks, each network in two of them."""
        count = len(self.variables)
        pairs = [(i, (i + 1) % count) for i in range(count)]
        return sorted({(min(pair), max(pair)) for pair in pairs})

    def parents(self) -> list[dict[str, float]]:
        """Return the metrics of each network."""
        found = map(jax.device_get, map(jax.jit(self.metrics.scores), self.variables))
        return [{name: float(value) for name, value in one.items()} for one in found]

    def aligned(self, pair: Pair) -> tuple[Any, Any]:
        """Return network i and network j aligned to it."""
        i, j = pair
        moved = self.symmetry.apply(self.permutations[pair], self.variables[j])
        return self.variables[i], moved

    def _mean(self, pair: Pair, metric: str) -> float:
        """The mean of a metric over the two networks of a pair."""
        return (self.scores[pair[0]][metric] + self.scores[pair[1]][metric]) / 2

    def match(self) -> dict[str, Any]:
        """Match every pair by weights, directly and through a third network."""
        found = []

        def matched(symmetry, a, b, *, key):
            found.append(combinability.match(symmetry, a, b, key=key))
            return found[-1]

        transitivity = combinability.transitivity(
            self.metrics.scores,
            self.symmetry,
            self.variables,
            key=self.key,
            match=matched,
            points=self.config.points,
            progress=self.advance,
        )
        identity = permutations.identity(self.symmetry)
        starts = [dict(m.starts or {}) for m in found]
        return {
            "permutations": transitivity.permutations,
            "matching": {
                "pairs": transitivity.pairs,
                "objective": [float(m.objective) for m in found],
                "starts": {name: [s[name] for s in starts] for name in starts[0]},
                "best_start": [max(s, key=lambda name: s[name]) for s in starts],
                "moved": [
                    float(permutations.distance(identity, m.permutation)) for m in found
                ],
            },
            "transitivity": _transitivity(transitivity),
        }

    def controls(self, names: Sequence[str] = CONTROLS) -> dict[str, Any]:
        """Measure the segments of matched pairs, of some or all `CONTROLS`."""
        metrics, pairs = self.metrics, sorted(self.permutations)
        barrier = functools.partial(combinability.barrier, points=self.config.points)
        found = []
        for done, pair in enumerate(pairs):
            a, aligned = self.aligned(pair)
            b = self.variables[pair[1]]
            segments = {
                "not matched": (metrics.scores, b, ()),
                "not matched, temperature": (metrics.tempered, b, ()),
                "matched": (metrics.scores, aligned, ()),
                "matched, temperature": (metrics.tempered, aligned, ()),
                "matched, repaired": (metrics.repaired, aligned, (a, aligned)),
            }
            asked = {name: segments[name] for name in names}
            found.append(
                {
                    name: barrier(metric, a, end, args=args)
                    for name, (metric, end, args) in asked.items()
                }
            )
            self.advance(done + 1, len(pairs))
        stacked = {
            name: jax.tree.map(lambda *x: np.stack(x), *(each[name] for each in found))
            for name in found[0]
        }
        return {
            "fractions": stacked["matched"].fractions[0],
            "barriers": {n: interval_of(pairs, x.height) for n, x in stacked.items()},
            "curves": {
                name: {metric: values.mean(0) for metric, values in x.losses.items()}
                for name, x in stacked.items()
            },
        }

    def combine(self, cell: Cell, key: jax.Array) -> dict[str, Any]:
        """Evaluate random combinations of every pair, the same number of each.

        The first of aligned pairs are repaired, too.
        """
        pairs, samples = self.ring, self.config.samples
        each, found, repaired = max(1, samples // len(pairs)), [], []
        distribution = cell.make(granularity=cell.granularity, symmetry=self.symmetry)
        for number, pair in enumerate(pairs):
            a, aligned = self.aligned(pair)
            drawn = jax.random.fold_in(key, number)
            if cell.aligned and self.config.repaired:
                error = combinability.evaluate(
                    self.metrics.repaired,
                    a,
                    aligned,
                    distribution,
                    key=drawn,
                    samples=-(-each // self.config.repaired),
                    args=(a, aligned),
                )["test_error"]
                repaired.append(error.mean() - self._mean(pair, "test_error"))
            values = combinability.evaluate(
                self.metrics.scores,
                a,
                aligned if cell.aligned else self.variables[pair[1]],
                distribution,
                key=drawn,
                samples=each,
                progress=lambda done, _, n=number: self.advance(
                    n * each + done, samples
                ),
                checkpoint=self.checkpoint and self.checkpoint(f"{number}.npz"),
            )
            found.append({name: np.asarray(x, float) for name, x in values.items()})

        def spread(metric: str) -> dict[str, Any]:
            values = np.array([each[metric] for each in found])
            means = [self._mean(pair, metric) for pair in pairs]
            beyond = {
                "excess": values.mean(axis=1) - means,
                "excess_95": np.percentile(values, 95, axis=1) - means,
            }
            percentiles = np.percentile(values, np.arange(101))
            return {"percentiles": percentiles, **interval_of(pairs, beyond)}

        asked = ("distribution", "granularity", "aligned")
        return {
            "cell": {name: getattr(cell, name) for name in asked},
            "repaired": pair_interval(pairs, repaired) if repaired else None,
            **{metric: spread(metric) for metric in self.scores[0]},
        }

    def robustness(self) -> dict[str, Any]:
        """Perturb the matching of pairs by increasing fractions of the units."""
        found, pairs, fractions = [], self.ring, self.config.fractions
        for number, (i, j) in enumerate(pairs):
            found.append(
                combinability.robustness(
                    self.metrics.scores,
                    self.symmetry,
                    self.variables[i],
                    self.variables[j],
                    self.permutations[i, j],
                    key=jax.random.fold_in(self.key, number),
                    fractions=fractions,
                    trials=_TRIALS,
                    samples=_PERTURBED_SAMPLES,
                    points=self.config.points,
                )
            )
            self.advance(number + 1, len(pairs))

        def row(place: int) -> dict[str, Any]:
            barrier, excess = {}, {}
            for metric in self.scores[0]:
                barrier[metric] = [x.barrier[metric][place].mean() for x in found]
                excess[metric] = [
                    x.losses[metric][place].mean() - self._mean(pair, metric)
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

    def difference(self) -> dict[str, Any]:
        """Compare combinations with their parents and each other; and two networks."""
        measure, rows = jax.jit(functools.partial(_differences, self.metrics)), []
        for done, pair in enumerate(self.ring):
            key = jax.random.fold_in(self.key, done)
            rows.append(jax.device_get(measure(key, *self.aligned(pair))))
            self.advance(done + 1, len(self.ring))

        values = jax.tree.map(lambda *each: np.stack(each), *rows)
        apart = {kind: found["disagreement"] for kind, found in values.items()}
        seeds = np.maximum(apart.pop("seeds"), 1e-9)
        values["relative"] = {kind: found / seeds for kind, found in apart.items()}
        return {
            kind: {name: over_networks(self.ring, x) for name, x in found.items()}
            for kind, found in values.items()
        }

    def landscape(self) -> dict[str, Any]:
        """Measure planes through three points of the loss landscape."""
        a, b = self.aligned((0, 1))
        _, c = self.aligned((0, 2))
        coin = coefficients.bernoulli(0.5)
        vertices = [
            combinability.combine(a, b, coin.sample(i, a, key=self.key))
            for i in range(2)
        ]
        corners = {
            "aligned": (a, b, c),
            "unmatched": self.variables[:3],
            "vertices": (a, *vertices),
        }
        plane = functools.partial(_plane, self.metrics.scores, self.config.resolution)
        return {name: plane(*points) for name, points in corners.items()}


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


def _plane(metric: Callable, resolution: int, a: Any, b: Any, c: Any) -> dict[str, Any]:
    """The plane of a, b and c, in coordinates in which a is (0, 0) and b (1, 0)."""

    def inner(x: Any, y: Any) -> float:
        pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
        return sum(float(jnp.vdot(u, v).real) for u, v in pairs if _is_combined(u))

    first = _combined(jnp.subtract, b, a)
    second = _combined(jnp.subtract, c, a)
    length = inner(first, first)
    along = inner(first, second) / length
    across = _combined(lambda x, y: x - along * y, second, first)
    height = math.sqrt(inner(across, across) / length)
    x = np.linspace(-0.35, 1.35, resolution)
    y = np.linspace(-0.3 * height, 1.35 * height, resolution)
    points = np.array([(u, v / height) for v in y for u in x], np.float32)

    def at(point):
        u, v = point
        return metric(_combined(lambda o, e, f: o + u * e + v * f, a, first, across))

    found = jax.jit(lambda points: jax.lax.map(at, points))(points)
    grids = jax.tree.map(lambda x: np.asarray(x).reshape(resolution, resolution), found)
    marks = [(0.0, 0.0), (1.0, 0.0), (along, height)]
    return {"x": x, "y": y, "marks": marks, **grids}


def _is_combined(leaf: jax.Array) -> bool:
    """Whether a leaf holds real or complex numbers, not counts, masks or keys."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _combined(function: Callable, first: Any, *others: Any) -> Any:
    """A tree of the results, with the other leaves of the first one."""

    def leaf(value, *values):
        return function(value, *values) if _is_combined(value) else value

    return jax.tree.map(leaf, first, *others)
