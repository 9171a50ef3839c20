"""Losses of random combinations, all over the hypercube and its vicinity."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import combinability
from benchmarks.combinability._scoring import Judge
from benchmarks.intervals import interval_of

Make = Callable[[combinability.Symmetry], combinability.coefficients.Coefficients]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A distribution of coefficients.

    Attributes:
        distribution: Its name, for readers.
        granularity: What has a coefficient of its own.
        make: Makes it.
        aligned: Whether the second network is aligned.
    """

    distribution: str
    granularity: str
    make: Make
    aligned: bool = True

    @property
    def name(self) -> str:
        """A name among all cells."""
        suffix = "" if self.aligned else ", not matched"
        return f"{self.distribution}, {self.granularity}{suffix}"


def _uniform(granularity: Any, low: float = 0.0, high: float = 1.0) -> Make:
    return lambda symmetry: combinability.uniform(
        low, high, granularity=granularity, symmetry=symmetry
    )


CELLS = (
    *(
        Cell("uniform [0, 1]", granularity, _uniform(granularity))
        for granularity in ("element", "neuron", "tensor", "module", "model")
    ),
    Cell("vertices", "element", lambda _: combinability.coefficients.bernoulli(0.5)),
    Cell(
        "vertices",
        "neuron",
        lambda s: combinability.coefficients.bernoulli(
            0.5, granularity="neuron", symmetry=s
        ),
    ),
    Cell(
        "beta(0.5, 0.5)", "element", lambda _: combinability.coefficients.beta(0.5, 0.5)
    ),
    Cell(
        "normal(0.5, 0.25)",
        "element",
        lambda _: combinability.coefficients.normal(0.5, 0.25),
    ),
    Cell("uniform [−0.25, 1.25]", "element", _uniform("element", -0.25, 1.25)),
    Cell("uniform [−0.5, 1.5]", "element", _uniform("element", -0.5, 1.5)),
    Cell("uniform [0, 1]", "element", _uniform("element"), aligned=False),
    Cell("uniform [0, 1]", "neuron", _uniform("neuron"), aligned=False),
)


def run_cell(
    cell: Cell,
    judge: Judge,
    symmetry: combinability.Symmetry,
    pairs: list[tuple[int, int]],
    ends: Callable[[int, int], tuple[Any, Any, Any]],
    of_parents: list[dict[str, float]],
    samples: int,
    batch: int | None,
    key: jax.Array,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Evaluates combinations of every pair, as many of each.

    Args:
      cell: The distribution.
      judge: What losses are measured with.
      symmetry: Of the networks.
      pairs: The pairs.
      ends: Gives for a pair the first network, the second as it is, and aligned.
      of_parents: The scores of each network.
      samples: Of all pairs together.
      batch: Combinations side by side; None for the fastest.
      key: Of the coefficients.
      progress: Called as `progress(done, total)`.
      checkpoint: A file name for finished samples; each pair has one of its own.

    Returns:
      For each metric "percentiles" over all combinations; "excess", the mean over a
      pair's combinations beyond the mean of its parents, and "excess_95", the 95th
      percentile likewise, with intervals over networks.
    """
    each = samples // len(pairs)
    found = []
    for number, (i, j) in enumerate(pairs):
        a, b, aligned = ends(i, j)
        shown = progress and (
            lambda done, _, n=number: progress(n * each + done, samples)
        )
        found.append(
            combinability.evaluate(
                judge.scores,
                a,
                aligned if cell.aligned else b,
                cell.make(symmetry),
                key=jax.random.fold_in(key, number),
                samples=each,
                batch_size=batch,
                progress=shown,
                checkpoint=checkpoint and Path(f"{checkpoint}.{number}.npz"),
            )
        )
    parents = [
        {m: (of_parents[i][m] + of_parents[j][m]) / 2 for m in of_parents[i]}
        for i, j in pairs
    ]
    result: dict[str, Any] = {
        "cell": {k: v for k, v in vars(cell).items() if k != "make"}
    }
    for metric in of_parents[0]:
        columns = [np.asarray(values[metric], float) for values in found]
        base = [parent[metric] for parent in parents]
        beyond = {
            "excess": [c.mean() - p for c, p in zip(columns, base, strict=True)],
            "excess_95": [
                np.percentile(c, 95) - p for c, p in zip(columns, base, strict=True)
            ],
        }
        result[metric] = {
            "percentiles": _percentiles(np.concatenate(columns)),
            **interval_of(pairs, beyond),
        }
    return result


def _percentiles(values: np.ndarray) -> list[float]:
    """The 0th, 1st, …, 100th percentile."""
    return np.percentile(values, np.arange(101)).tolist()
